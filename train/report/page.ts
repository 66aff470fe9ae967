// The report as one self-contained HTML page. It needs no network (a policy in its head forbids it). Every chart is in it twice: as a
// picture, for printers and where scripts do not run, and as data, which script.ts draws.
import { readFileSync } from 'node:fs';
import { resolve } from 'node:path';
import { writeAtomically } from '../files/atomic-file.js';
import { layOut } from '../pictures/curve-layout.js';
import { toSvg } from '../pictures/curves.js';
import { type Chart, chartGroups, type Group } from './charts.js';
import { html, jsonFor, type Markup, raw } from './html.js';
import { settingText } from './numbers.js';
import { type RunData, readRun } from './run-data.js';
import { style } from './style.js';
import { caseTable, classTable, confusionTable, cosineTable, facts, runTable, settingsTables } from './tables.js';

/** Pictures beyond this many bytes are left out, and the page says so. */
const pictureBytes = 2_600_000;
/** Share of a line's points, in percent, that the page's moving average takes at first. */
const smoothing = 2;

/**
 * Writes the report of run folders, one self-contained HTML page, to the file `out`. Throws where a folder is no run, or `out`
 * cannot be written.
 */
export function writeReport(folders: readonly string[], out: string): void {
  writePage(readRuns(folders), out);
}

/** Reads run folders for one page. Throws where a folder is no run. */
export function readRuns(folders: readonly string[]): RunData[] {
  // Many runs have fewer points each: a page of twenty is no larger than one of six.
  const points = Math.max(100, Math.min(1000, Math.floor(6000 / folders.length)));
  return distinctlyNamed(folders.map((folder) => readRun(folder, points)));
}

/** Writes the page of runs that were read. */
export function writePage(runs: readonly RunData[], out: string): void {
  writeAtomically(out, [new TextEncoder().encode(reportPage(runs))]);
}

/** Runs of the same name are told apart by their folders. */
function distinctlyNamed(runs: RunData[]): RunData[] {
  const isTwice = (name: string) => runs.filter((run) => run.name === name).length > 1;
  return runs.map((run) => {
    if (!isTwice(run.name)) return run;
    const longer = resolve(run.folder).split(/[\\/]/).slice(-2).join('/');
    return { ...run, name: longer };
  });
}

/** The page's text. */
export function reportPage(runs: readonly RunData[]): string {
  const title = runs.map(({ name }) => name).join(', ');
  const groups = chartGroups(runs);
  const charts = groups.flatMap((group) => group.charts);
  // The build puts the script and the chart library's style sheet beside this file.
  const built = (name: string) => readFileSync(new URL(name, import.meta.url), 'utf8');
  const { markup } = html`<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'">
<link rel="icon" href="data:,">
<title>wgrad: ${title}</title>
<style>${raw(built('./script.css') + style)}</style>
</head>
<body>
<header><div><h1>${runs.length > 1 ? `${runs.length} runs: ${title}` : title}</h1>${runs.length === 1 ? essentials(runs[0]!) : ''}</div><button type="button" class="theme scripted" hidden>dark</button></header>
${runs.length > 1 ? runTable(runs) : facts(runs[0]!)}
${notes(runs)}
<main>
${charts.length ? curves(groups) : ''}
${section('Prototypes', [ofEach(runs, cosineTable)])}
${section('Slices', [slices(runs)])}
${section('Classes', [classTable(runs)])}
${section('Cases', [caseTable(runs)])}
${section('Confusion between classes', [ofEach(runs, confusionTable)])}
${section('Settings', [settingsTables(runs)])}
</main>
<footer>${runs.map((run) => html`<div>${run.folder}${environment(run)}</div>`)}</footer>
<script type="application/json" id="charts">${jsonFor(charts)}</script>
<script>${raw(built('./script.js'))}</script>
</body>
</html>
`;
  return markup;
}

/** A section of what there is; nothing where there is nothing. */
function section(title: string, parts: readonly (Markup | undefined)[]): Markup | undefined {
  const known = parts.filter((part) => part !== undefined);
  return known.length ? html`<section><h2>${title}</h2>${known}</section>` : undefined;
}

/** What there is of each run, side by side where there is room, named where there are several. */
function ofEach(runs: readonly RunData[], part: (run: RunData) => Markup | undefined): Markup | undefined {
  const known = runs.flatMap((run) => {
    const own = part(run);
    return own ? [html`<div>${runs.length > 1 && html`<h3>${run.name}</h3>`}${own}</div>`] : [];
  });
  return known.length ? html`<div class="parts">${known}</div>` : undefined;
}

function essentials({ config, iterations, best }: RunData): Markup {
  const parts = [
    config.method !== undefined && `method ${settingText(config.method)}`,
    config.labeled !== undefined && `${settingText(config.labeled)} labelled patients`,
    `${iterations}${typeof config.iterations === 'number' ? ` of ${config.iterations}` : ''} iterations`,
    best && `best validation at iteration ${best.iteration}`,
  ];
  return html`<p class="soft">${parts.filter((part) => typeof part === 'string').join(' · ')}</p>`;
}

function notes(runs: readonly RunData[]): Markup | undefined {
  const lines = runs.flatMap((run) => run.notes.map((note) => (runs.length > 1 ? `${run.name}: ${note}` : note)));
  return lines.length
    ? html`<div class="notes" role="note"><ul>${lines.map((line) => html`<li>${line}</li>`)}</ul></div>`
    : undefined;
}

function curves(groups: readonly Group[]): Markup {
  return html`<section><h2>Curves</h2>
<p class="soft">Over iterations. Pale is what was measured, strong its moving average. <span class="scripted" hidden>Click a name to hide its line. Drag over a chart to enlarge a stretch; double-click to go back.</span></p>
<div class="tools scripted" hidden>
<label>smoothing <input type="range" id="smoothing" min="0" max="20" value="${smoothing}" aria-describedby="smoothing-value"> <span id="smoothing-value">${smoothing} %</span></label>
<label><input type="checkbox" id="log"> log scale</label>
</div>
${groups.map(
  ({ title, charts, constants }) =>
    html`<h3>${title}</h3>${constants.length ? html`<p class="soft">${constants.join(' · ')}</p>` : ''}<div class="charts">${charts.map(figure)}</div>`,
)}</section>`;
}

function figure(chart: Chart): Markup {
  const isNamed = chart.lines.length === 1 && chart.lines[0]!.name === chart.title;
  const legend = chart.lines.map(
    ({ name, style }) =>
      html`<li><button type="button" aria-pressed="true"><svg class="swatch" viewBox="0 0 30 12" aria-hidden="true"><path class="line s${style}" d="M1 6H29"/></svg><span class="${isNamed && 'unseen'}">${name}</span> <output></output></button></li>`,
  );
  const about = textOf(chart);
  return html`<figure class="plot"><div class="static" role="img" aria-label="${about}">${raw(pictureOf(chart))}</div>
<div class="scripted" hidden><h4>${chart.title} <span class="at"></span></h4><ul class="legend">${legend}</ul><div class="canvas" role="img" tabindex="0" aria-label="${about}"></div><div class="said unseen" role="status"></div></div></figure>
`;
}

/** The chart in words: where each line ends. */
function textOf({ title, lines }: Chart): string {
  const ends = lines.map(({ name, y }) => {
    const last = y.findLast((value) => value !== null);
    return `${name} ${last === undefined ? 'has no value' : `ends at ${settingText(last)}`}`;
  });
  return `${title}: ${ends.join(', ')}`;
}

const pictureOf = ({ title, lines, range }: Chart): string =>
  toSvg(
    layOut([
      {
        title,
        lines: lines.map(({ name, x, y }) => ({ name, x, y: y.map((value) => value ?? Number.NaN) })),
        isShare: range === 'share',
      },
    ]),
  );

/** Pictures of the best validation of every run, then of the last, the first and the last strong views, as far as there is room. */
function slices(runs: readonly RunData[]): Markup | undefined {
  const all = runs.flatMap((run) =>
    run.slices.map((one) => ({ run, one, isBest: !one.isViews && one.iteration === run.best?.iteration })),
  );
  all.sort((a, b) => Number(b.isBest) - Number(a.isBest));
  let room = pictureBytes;
  const shown = all.filter(({ one }) => {
    const fits = one.png.length <= room;
    if (fits) room -= one.png.length;
    return fits;
  });
  if (!all.length) return undefined;
  const figures = shown.map(({ run, one, isBest }) => {
    const what = one.isViews ? 'strong views' : 'validation';
    const about = `${runs.length > 1 ? `${run.name}, ` : ''}${what} at iteration ${one.iteration}${isBest ? ' (best)' : ''}`;
    const columns = one.isViews
      ? "weak view, strong view, the teacher's classes, and the pixels that are kept"
      : 'image, ground truth, prediction with errors marked, and the pixels that are kept';
    const source = raw(`data:image/png;base64,${one.png.toString('base64')}`);
    return html`<figure><figcaption>${about}</figcaption><img src="${source}" width="${one.width}" height="${one.height}" alt="slices of ${about}: ${columns}"></figure>`;
  });
  const left = all.length - shown.length;
  return html`<div class="slices">${figures}</div>${left ? html`<p class="soft">${left} more ${left === 1 ? 'picture is' : 'pictures are'} in the run folders.</p>` : ''}`;
}

function environment({ environment: { adapter, versions, commit } }: RunData): string {
  const of = (value: unknown, name: string): string | undefined => {
    const found = (value as Record<string, unknown> | undefined)?.[name];
    return typeof found === 'string' && found ? found : undefined;
  };
  const version = of(versions, 'wgrad');
  const parts = [
    of(adapter, 'description'),
    version && `wgrad ${version}`,
    typeof commit === 'string' ? `commit ${commit}` : undefined,
  ];
  const known = parts.filter((part) => part);
  return known.length ? ` — ${known.join(', ')}` : '';
}
