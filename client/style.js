// Colours derive from the text colour of the page, so that the bar fits any theme; the three that
// carry a meaning follow `color-scheme`, and each is a custom property.
export const css = `
:host {
  --_accent: var(--jobtastic-accent, #2563eb);
  --_success: var(--jobtastic-success, #15713a);
  --_failure: var(--jobtastic-failure, #c81e1e);
  --_track: var(--jobtastic-track, color-mix(in srgb, currentColor 13%, transparent));
  --_muted: var(--jobtastic-muted, color-mix(in srgb, currentColor 78%, transparent));
  --_tone: var(--_accent);
  display: block;
  max-inline-size: 40rem;
  line-height: 1.45;
}
@supports (color: light-dark(red, red)) {
  :host {
    --_accent: var(--jobtastic-accent, light-dark(#2563eb, #6ea8ff));
    --_success: var(--jobtastic-success, light-dark(#15713a, #4ade80));
    --_failure: var(--jobtastic-failure, light-dark(#c81e1e, #ff8a80));
  }
}
:host([hidden]) { display: none; }
:host([state=success]) { --_tone: var(--_success); }
:host([state=failure]) { --_tone: var(--_failure); }
:host([state=revoked]), :host([state=error]) { --_tone: color-mix(in srgb, currentColor 50%, transparent); }
[part=base] {
  display: grid;
  grid-template: "head figure side" "track track side" "text text side" "foot foot foot" / 1fr auto auto;
  row-gap: .4em;
  align-items: center;
}
:host(:not([label])) [part=base] { grid-template-areas: "text figure side" "track track side" "foot foot side"; }
:host(:not([label])) [part=label] { display: none; }
slot { grid-area: side; }
::slotted(*) { margin-inline-start: 1em; }
[part=label] { grid-area: head; font-weight: 600; }
[part=figure] { grid-area: figure; margin-inline-start: 1em; font-weight: 600; font-variant-numeric: tabular-nums; unicode-bidi: plaintext; }
[part=text] { grid-area: text; color: var(--_muted); }
[part=text]::first-letter { text-transform: uppercase; }
:host([state=success]) [part=text], :host([state=failure]) [part=text] {
  color: var(--_tone);
  font-weight: 600;
}
:host([state=success]) [part=text]::before { content: "✓ " / ""; }
:host([state=failure]) [part=text]::before { content: "✕ " / ""; }
[part=track] {
  grid-area: track;
  block-size: var(--jobtastic-height, .55rem);
  border-radius: var(--jobtastic-radius, 1rem);
  background: var(--_track);
  overflow: hidden;
}
[part=fill] {
  block-size: 100%;
  inline-size: 0;
  border-radius: inherit;
  background: var(--_tone);
  transition: inline-size .5s ease-out, background-color .3s;
}
:host([unknown]) [part=fill], :host([state=failure]) [part=fill] { inline-size: 100%; }
:host([unknown]) [part=fill] {
  background: linear-gradient(90deg, transparent, var(--_tone), transparent) 0 / 45% 100% no-repeat;
  animation: pass 1.8s ease-in-out infinite;
}
:host(:dir(rtl)) [part=fill] { animation-direction: reverse; }
@keyframes pass {
  from { background-position: -70% 0; }
  to { background-position: 170% 0; }
}
[part=foot] {
  grid-area: foot;
  display: flex;
  gap: 1em;
  min-block-size: 1.45em;
  font-size: .9em;
  color: var(--_muted);
}
[part=message] { margin-inline-end: auto; }
[part=detail] { flex: none; max-inline-size: 100%; font-variant-numeric: tabular-nums; }
[part=detail]:empty { display: none; }
[part=message], [part=detail] {
  unicode-bidi: plaintext;
  overflow: hidden;
  text-overflow: ellipsis;
  white-space: nowrap;
}
:host([state=failure]) [part=message] {
  overflow-wrap: anywhere;
  white-space: pre-line;
}
:host([state=failure]) [part=message]:not(:empty) {
  margin: .35em 0 0;
  flex: 1;
  padding: .6em .85em;
  color: inherit;
  background: color-mix(in srgb, var(--_tone) 10%, transparent);
  border-inline-start: 3px solid var(--_tone);
  border-radius: .3em;
}
[part=live] {
  position: absolute;
  inline-size: 1px;
  block-size: 1px;
  overflow: hidden;
  clip-path: inset(50%);
  white-space: nowrap;
}
:host([unconfirmed]) [part=fill], :host([state=error]) [part=fill] {
  background: repeating-linear-gradient(90deg, var(--_tone) 0 .25rem, transparent .25rem .5rem);
  animation: none;
}
:host([unconfirmed]) [part=figure] { color: var(--_muted); font-weight: 400; }
@media (prefers-reduced-motion: reduce) {
  [part=fill] { transition: none; }
  :host([unknown]) [part=fill] {
    animation: none;
    opacity: .5;
    background: repeating-linear-gradient(135deg, var(--_tone) 0 .4rem, transparent .4rem .8rem);
  }
}
@media (forced-colors: active) {
  [part=track] { border: 1px solid CanvasText; }
  [part=fill] { background: Highlight; forced-color-adjust: none; }
}
`;
