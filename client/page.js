// The page, asked past the names in it: <img name=hidden> takes the place of document.hidden. So
// its properties are those of the prototypes; where there are none (Node), its own.

const own = (kind, name) =>
  Object.getOwnPropertyDescriptor(globalThis[kind]?.prototype ?? {}, name);

export const create = (tag) => own('Document', 'createElement').value.call(globalThis.document, tag);

export function isHidden() {
  const page = globalThis.document;
  const said = page?.hidden;

  return typeof said === 'boolean' ? said : !!own('Document', 'hidden')?.get.call(page);
}

/** Listens on the document or the window. */
export function listen(target, name, handler, signal) {
  const add = globalThis.Document ? EventTarget.prototype.addEventListener : target?.addEventListener;
  add?.call(target, name, handler, { signal });
}
