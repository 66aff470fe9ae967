// The page's style sheet. Colours of lines are told apart with any colour vision and on both backgrounds. They are after Okabe & Ito
// (2008), darker on white.
import { lookOf, styles } from './charts.js';

const light = `
  color-scheme: light;
  --paper: #ffffff; --card: #f6f7f9; --ink: #1c2026; --soft: #5a626d; --rule: #d9dde3; --accent: #0b62c4; --mark: #e8f1fd;
  --s0: #0067ad; --s1: #b35900; --s2: #007a55; --s3: #b3307f; --s4: #6b3fb8; --s5: #4a4f57;`;
const dark = `
  color-scheme: dark;
  --paper: #14171c; --card: #1c2027; --ink: #e8eaee; --soft: #a4acb8; --rule: #353b45; --accent: #7db6ff; --mark: #1d3350;
  --s0: #5ab4f0; --s1: #f0a13c; --s2: #37c79a; --s3: #ee86bf; --s4: #b49bf2; --s5: #c3c8d0;`;
const lineStyles = Array.from({ length: styles }, (_, i) => {
  const { color, dash } = lookOf(i);
  return `.line.s${i} { stroke: var(--s${color}); stroke-dasharray: ${dash.join(' ') || 'none'}; }`;
}).join('\n');

export const style = `
:root {${light}
}
@media (prefers-color-scheme: dark) { :root {${dark}
} }
:root[data-theme='light'] {${light}
}
:root[data-theme='dark'] {${dark}
}
* { box-sizing: border-box; }
html { -webkit-text-size-adjust: 100%; }
body {
  margin: 0 auto; padding: 24px 24px 64px; max-width: 1240px; background: var(--paper); color: var(--ink);
  font: 15px/1.5 system-ui, -apple-system, 'Segoe UI', Roboto, 'Open Sans', sans-serif;
}
h1 { margin: 0; font-size: 26px; line-height: 1.25; overflow-wrap: anywhere; }
h2 { margin: 44px 0 12px; font-size: 19px; border-bottom: 1px solid var(--rule); padding-bottom: 6px; }
h3 { margin: 22px 0 8px; font-size: 15px; }
p { margin: 6px 0; max-width: 80ch; }
.soft, figcaption, footer { color: var(--soft); }
header { display: flex; gap: 16px; align-items: flex-start; justify-content: space-between; }
header p { margin-top: 4px; }
[hidden] { display: none !important; }
button, input { font: inherit; color: inherit; accent-color: var(--accent); }
button.theme { background: var(--card); border: 1px solid var(--rule); border-radius: 6px; padding: 5px 12px; cursor: pointer; white-space: nowrap; }
button:hover { border-color: var(--soft); }
:focus-visible { outline: 2px solid var(--accent); outline-offset: 2px; }
.notes { background: var(--mark); border-left: 4px solid var(--accent); padding: 10px 16px; margin: 18px 0; border-radius: 0 6px 6px 0; }
.notes ul { margin: 0; padding-left: 18px; }
.facts { display: grid; grid-template-columns: repeat(auto-fill, minmax(150px, 1fr)); gap: 10px; margin: 20px 0 0; padding: 0; }
.facts div { background: var(--card); border-radius: 8px; padding: 8px 14px; min-width: 0; }
.facts dt { color: var(--soft); font-size: 13px; }
.facts dd { margin: 0; font-size: 20px; font-variant-numeric: tabular-nums; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { padding: 5px 14px 5px 0; border-bottom: 1px solid var(--rule); text-align: right; vertical-align: baseline; white-space: nowrap; }
th { font-weight: 600; }
thead th { color: var(--soft); font-size: 13px; line-height: 1.3; vertical-align: bottom; white-space: normal; }
th.name, td.name { text-align: left; }
.scroll tr > .name:first-child { position: sticky; left: 0; background: var(--paper); z-index: 1; }
td.best { font-weight: 700; background: var(--mark); }
.unseen { position: absolute; width: 1px; height: 1px; overflow: hidden; clip-path: inset(50%); }
td.plain { white-space: normal; max-width: 40ch; overflow-wrap: anywhere; min-width: 9ch; text-align: left; }
th button { all: unset; cursor: pointer; font-weight: 600; position: relative; padding-right: 13px; }
th button:focus-visible { outline: 2px solid var(--accent); outline-offset: 2px; }
th button::after {
  content: ''; position: absolute; right: 0; bottom: 3px; width: 9px; height: 11px; background: currentColor; opacity: 0.45;
  clip-path: polygon(50% 0, 100% 42%, 0 42%, 0 58%, 100% 58%, 50% 100%);
}
th[aria-sort='ascending'] button::after { opacity: 1; clip-path: polygon(50% 12%, 100% 88%, 0 88%); }
th[aria-sort='descending'] button::after { opacity: 1; clip-path: polygon(0 12%, 100% 12%, 50% 88%); }
.matrix td { min-width: 76px; padding: 8px 10px; text-align: center; border: 1px solid var(--paper); }
.matrix th { padding: 5px 12px 5px 0; border: 0; white-space: normal; }
.matrix thead th { text-align: center; padding: 5px 10px; }
.matrix td { background: color-mix(in srgb, var(--s0) calc(var(--part) * 62%), var(--card)); }
.matrix td small { display: block; color: inherit; opacity: 0.8; font-size: 11px; }
.tools { display: flex; flex-wrap: wrap; gap: 8px 28px; align-items: center; margin: 12px 0; position: sticky; top: 0; background: var(--paper); padding: 6px 0; z-index: 2; }
.tools label { display: flex; gap: 8px; align-items: center; }
.charts { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 330px), 1fr)); gap: 20px 28px; }
figure { margin: 0; min-width: 0; break-inside: avoid; }
figure.plot { scroll-margin-top: 56px; }
figure.plot h4 { margin: 0; font-size: 14px; overflow-wrap: anywhere; }
.at { float: right; color: var(--soft); font-weight: 400; font-size: 13px; font-variant-numeric: tabular-nums; }
.legend { display: flex; flex-wrap: wrap; gap: 0 16px; margin: 2px 0 4px; padding: 0; list-style: none; font-size: 13px; color: var(--soft); }
.legend button { all: unset; display: flex; gap: 6px; align-items: center; overflow-wrap: anywhere; cursor: pointer; }
.legend button:focus-visible { outline: 2px solid var(--accent); outline-offset: 2px; }
.legend button[aria-pressed='false'] { opacity: 0.45; text-decoration: line-through; }
.legend output { min-width: 7ch; color: var(--ink); font-weight: 600; font-variant-numeric: tabular-nums; }
.swatch { width: 30px; height: 12px; flex: none; }
.line { fill: none; stroke-width: 2; }
${lineStyles}
.static svg { display: block; width: 100%; height: auto; }
.scripted .static { display: none; }
.canvas .u-cursor-x { border-color: var(--soft); }
.canvas .u-select { background: var(--soft); opacity: 0.2; }
.slices { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 560px), 1fr)); gap: 20px 28px; }
.parts { display: flex; flex-wrap: wrap; gap: 0 48px; }
.parts > div { min-width: 0; max-width: 100%; }
.slices img { max-width: 100%; height: auto; border-radius: 8px; display: block; background: #16171b; }
details summary { cursor: pointer; color: var(--accent); margin: 8px 0; }
footer { margin-top: 56px; font-size: 13px; border-top: 1px solid var(--rule); padding-top: 10px; }
@media (max-width: 600px) {
  body { padding: 16px 14px 48px; font-size: 14px; }
  h1 { font-size: 21px; }
  .facts { gap: 6px; grid-template-columns: repeat(auto-fill, minmax(104px, 1fr)); }
  .facts div { padding: 6px 10px; }
  .facts dd { font-size: 17px; }
  .tools { gap: 4px 18px; }
  th, td { padding-right: 10px; }
  .matrix td { min-width: 58px; padding: 8px 4px; }
  .matrix thead th { padding: 5px 4px; }
}
@media print {
  :root, :root[data-theme='dark'] {${light}
  }
  body { max-width: none; padding: 0; font-size: 11px; }
  .scripted .static { display: block; }
  .tools, .theme, .plot .scripted, p .scripted { display: none !important; }
  .charts { grid-template-columns: repeat(2, 1fr); gap: 10px 18px; }
  h2, h3 { break-after: avoid; }
  tr, .facts div { break-inside: avoid; }
  .scroll { overflow: visible; }
  thead th, th, td { font-size: 9.5px; padding: 2px 6px 2px 0; white-space: normal; }
  th button::after { display: none; }
  th button { padding: 0; }
  .matrix td { min-width: 0; padding: 4px 8px; }
  .slices img { max-height: 240mm; width: auto; }
  * { print-color-adjust: exact; -webkit-print-color-adjust: exact; }
}
`;
