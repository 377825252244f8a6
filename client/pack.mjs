// Joins the modules of this folder into the one file that pages load, so that it costs one request,
// and works where static files are renamed by their content. Names stay, and a line for each step;
// comments and indentation go. Usage: node pack.mjs > ../jobtastic_ext/static/jobtastic_ext/jobtastic.js
import { readFileSync } from 'node:fs';

const HEAD = '// jobtastic_ext, MIT. Made of client/';
const seen = new Set();

// Spaces around punctuation go, but not inside a text, a template or an expression.
const KEPT = /('[^'\n]*'|"[^"\n]*"|`[^`]*`|\/(?:\\.|\[[^\]\n]*\]|[^/\\\s])+\/[gm]*)/;
const tighten = (source) => source.split(KEPT).map((piece, index) =>
  index % 2 ? piece : piece.replace(/ ?([-=!<>+*/?:;,{}()&|]+) ?/g, '$1')
    .replace(/,\n(?=[}\])])/g, '').replace(/([,({])\n/g, '$1').replace(/\n([})\]])/g, '$1')
    .replaceAll(';}', '}')).join('');

function pack(name, entry) {
  if (seen.has(name)) return '';
  seen.add(name);
  let source = readFileSync(new URL(name, import.meta.url), 'utf8');
  let before = '';
  source = source.replace(/^import .* from '\.\/(.*)';\n/gm, (_, each) => {
    before += pack(each, false);
    return '';
  });
  if (/^import /m.test(source)) throw new Error(`${name}: an import that this script cannot join`);
  source = source
    .replace(/^\s*\/\*\*[^]*?\*\/\n/gm, '')
    .replace(/^\s*\/\/.*\n/gm, '')
    .replace(/[ ]+\/\/ [^'"`\n]*$/gm, '')
    .replace(/^\s+/gm, '')
    .replace(/(?<= css = `)[^`]*/, (css) => css.replace(/\s*([{};,])\s*/g, '$1')
      .replaceAll(': ', ':').replaceAll(';}', '}'));
  if (!entry) source = source.replace(/^export /gm, '');
  return before + tighten(source);
}

process.stdout.write(`${HEAD}\n${pack('jobtastic.js', true)}`);
