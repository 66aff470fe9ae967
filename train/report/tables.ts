// The report's tables: runs side by side, classes, cases, confusion between classes, cosines, settings.
import { html, type Markup, raw } from './html.js';
import { bestOfColumns, type Cell, fixed, overview, settingText, widest } from './numbers.js';
import type { CaseScores, RunData, Score } from './run-data.js';

/** A number cell; `data-value` is what it is sorted by. */
const number = (value: number | null | undefined, decimals: number): Markup =>
  html`<td data-value="${typeof value === 'number' && Number.isFinite(value) ? value : ''}">${fixed(value, decimals)}</td>`;

/** What sums the only run up, in large. */
export const facts = (run: RunData): Markup =>
  html`<dl class="facts">${overview(run)
    .filter(({ text }) => text !== '–')
    .map(({ title, text }) => html`<div><dt>${title}</dt><dd>${text}</dd></div>`)}</dl>`;

/** One row a run; the best of each column are marked. */
export function runTable(runs: readonly RunData[]): Markup {
  const rows = runs.map(overview);
  const heads = widest(rows);
  const best = bestOfColumns(heads, rows);
  const isText = (column: number) => rows.some((row) => typeof row[column]?.value === 'string');
  const cell = ({ key }: Cell, column: number, row: readonly Cell[], i: number) => {
    const { text, value } = row.find((one) => one.key === key) ?? { text: '–', value: null };
    if (isText(column)) return html`<td class="name">${text}</td>`;
    const isBest = best[column]!.has(i);
    return html`<td class="${isBest && 'best'}" data-value="${value ?? ''}">${text}${isBest && html`<span class="unseen"> (best)</span>`}</td>`;
  };
  const kind = (column: number) => (isText(column) ? 'name' : '');
  return html`<p class="soft">Scores of the best validation, what was kept over the last quarter of the training. Highlighted: the best of these runs.</p>
<div class="scroll"><table class="sortable runs">
<thead><tr><th class="name" scope="col">run</th>${heads.map(({ title }, c) => html`<th class="${kind(c)}" scope="col">${title}</th>`)}</tr></thead>
<tbody>${rows.map((row, i) => html`<tr><th class="name" scope="row">${runs[i]!.name}</th>${heads.map((head, c) => cell(head, c, row, i))}</tr>`)}</tbody></table></div>`;
}

const measures: [name: string, title: string, decimals: number][] = [
  ['Dice', 'Dice', 4],
  ['Jaccard', 'Jaccard', 4],
  ['HD95', 'HD95 mm', 2],
  ['HD95_symmetric', 'symmetric HD95 mm', 2],
  ['ASD', 'ASD mm', 2],
  ['ASSD', 'ASSD mm', 2],
  ['missed', 'missed', 0],
  ['invented', 'invented', 0],
];

/** Means (± standard deviation over the cases, where it is known) by class, of each run. */
export function classTable(runs: readonly RunData[]): Markup | undefined {
  const scored = runs.filter(({ summary, best }) => summary ?? best);
  if (!scored.length) return undefined;
  const rows = scored.flatMap((run) => {
    const { mean, std, foreground } = run.summary ?? {
      mean: run.best!.mean,
      std: {},
      foreground: run.best!.foreground,
    };
    const ofClass = Object.entries(mean).map(([k, score]) => ({
      run: run.name,
      name: run.classes[Number(k)] ?? `class ${k}`,
      score,
      std: (std as Record<string, Score>)[k] ?? {},
    }));
    return [...ofClass, { run: run.name, name: 'mean (counts: sum)', score: foreground, std: {} as Score }];
  });
  const shown = measures.filter(([name]) => rows.some(({ score }) => typeof score[name] === 'number'));
  const cell = ({ score, std }: (typeof rows)[number], [name, , decimals]: (typeof measures)[number]) => {
    const spread = std[name];
    return html`<td>${fixed(score[name], decimals)}${typeof spread === 'number' ? html` <span class="soft">± ${fixed(spread, decimals)}</span>` : ''}</td>`;
  };
  const several = runs.length > 1;
  return html`<p class="soft">Means over cases. A distance counts only where prediction and reference both have the structure; “missed” and “invented” count where one of them has it.</p>
<div class="scroll"><table class="classes"><thead><tr>${several ? html`<th class="name" scope="col">run</th>` : ''}<th class="name" scope="col">class</th>${shown.map(([, title]) => html`<th scope="col">${title}</th>`)}</tr></thead>
<tbody>${rows.map((row) => html`<tr>${several ? html`<td class="name">${row.run}</td>` : ''}<th class="name" scope="row">${row.name}</th>${shown.map((measure) => cell(row, measure))}</tr>`)}</tbody></table></div>`;
}

/** Every case of every run; sorted by clicking a head. */
export function caseTable(runs: readonly RunData[]): Markup | undefined {
  const cases = runs.flatMap((run) => (run.summary?.cases ?? []).map((one) => ({ run, one })));
  if (!cases.length) return undefined;
  const several = runs.length > 1;
  const hasFrame = cases.some(({ one }) => one.frame !== undefined);
  const keys = [...new Set(cases.flatMap(({ one }) => Object.keys(one.metrics)))].sort((a, b) => Number(a) - Number(b));
  const named = runs.reduce((most, run) => (run.classes.length > most.length ? run.classes : most), [] as string[]);
  const nameOf = (k: string) => named[Number(k)] ?? `class ${k}`;
  const head = (text: string, kind = '') => html`<th class="${kind}" scope="col">${text}</th>`;
  return html`<div class="scroll"><table class="sortable cases"><thead><tr>
${several ? head('run', 'name') : ''}${head('case', 'name')}${hasFrame ? head('frame', 'name') : ''}
${keys.map((k) => head(`Dice ${nameOf(k)}`))}${head('mean Dice')}${keys.map((k) => head(`HD95 ${nameOf(k)}`))}${head('missed or invented', 'name')}
</tr></thead><tbody>
${cases.map(
  ({
    run,
    one,
  }) => html`<tr>${several ? html`<td class="name">${run.name}</td>` : ''}<th class="name" scope="row">${one.id}</th>${hasFrame ? html`<td class="name">${one.frame ?? ''}</td>` : ''}${keys.map((k) => number(one.metrics[k]?.Dice, 4))}${number(meanDice(one), 4)}${keys.map((k) => number(one.metrics[k]?.HD95, 2))}<td class="name">${wrongStructures(one, nameOf)}</td></tr>
`,
)}</tbody></table></div>`;
}

function meanDice({ metrics }: CaseScores): number | null {
  const known = Object.values(metrics).flatMap(({ Dice }) => (typeof Dice === 'number' ? [Dice] : []));
  return known.length ? known.reduce((sum, v) => sum + v, 0) / known.length : null;
}

function wrongStructures({ metrics }: CaseScores, nameOf: (k: string) => string): string {
  const of = (what: string): string[] => {
    const names = Object.entries(metrics).flatMap(([k, score]) => (score[what] ? [nameOf(k)] : []));
    return names.length ? [`${what}: ${names.join(', ')}`] : [];
  };
  return [...of('missed'), ...of('invented')].join('; ');
}

const compact = (value: number): string =>
  value >= 1e6 ? `${(value / 1e6).toFixed(1)} M` : value >= 1e4 ? `${(value / 1e3).toFixed(0)} k` : String(value);

/** A square matrix whose cells are shaded by their share. */
const matrix = (
  caption: string,
  names: readonly string[],
  cells: readonly { part: number; text: string; small?: string; about: string }[][],
): Markup =>
  html`<p class="soft">${caption}</p>
<div class="scroll"><table class="matrix"><thead><tr><td></td>${cells.map((_, k) => html`<th scope="col">${names[k] ?? `class ${k}`}</th>`)}</tr></thead>
<tbody>${cells.map(
    (row, k) =>
      html`<tr><th class="name" scope="row">${names[k] ?? `class ${k}`}</th>${row.map(
        ({ part, text, small, about }) =>
          html`<td style="--part:${raw(Math.min(1, Math.max(0, part || 0)).toFixed(3))}" title="${about}">${text}${small ? html`<small>${small}</small>` : ''}</td>`,
      )}</tr>`,
  )}</tbody></table></div>`;

/** How often each class was taken for each other, counted in voxels of the best validation. */
export function confusionTable({ summary, classes }: RunData): Markup | undefined {
  if (!summary?.confusion) return undefined;
  const cells = summary.confusion.map((row, truth) => {
    const all = row.reduce((sum, n) => sum + n, 0);
    return row.map((n, said) => ({
      part: all ? n / all : 0,
      text: all ? `${((100 * n) / all).toFixed(1)} %` : '–',
      small: compact(n),
      about: `${n} voxels of ${classes[truth] ?? truth} were called ${classes[said] ?? said}`,
    }));
  });
  return matrix('Rows: ground truth. Columns: prediction. Shares of a row, and voxels.', classes, cells);
}

/** Cosines between the prototypes at the end. */
export function cosineTable({ cosines, classes }: RunData): Markup | undefined {
  if (!cosines) return undefined;
  const size = Math.round(Math.sqrt(cosines.last.length));
  const cells = Array.from({ length: size }, (_, i) =>
    Array.from({ length: size }, (_, j) => {
      const value = cosines.last[i * size + j]!;
      return { part: Math.max(0, value), text: fixed(value, 3), about: `${classes[i]} and ${classes[j]}` };
    }),
  );
  return matrix('Cosines between class prototypes, at the last validation. Lower is better separated.', classes, cells);
}

/** Settings of all runs; with several, first those that differ. */
export function settingsTables(runs: readonly RunData[]): Markup {
  const keys = [...new Set(runs.flatMap(({ config }) => Object.keys(config)))];
  const isSame = (key: string) => new Set(runs.map(({ config }) => JSON.stringify(config[key]))).size === 1;
  const list = (shown: readonly string[]) =>
    html`<div class="scroll"><table class="settings"><thead><tr><th class="name" scope="col">setting</th>${runs.map((run) => html`<th class="name" scope="col">${run.name}</th>`)}</tr></thead>
<tbody>${shown.map((key) => html`<tr><th class="name" scope="row">${key}</th>${runs.map(({ config }) => html`<td class="plain">${settingText(config[key])}</td>`)}</tr>`)}</tbody></table></div>`;
  if (!keys.length) return html`<p class="soft">No settings are known.</p>`;
  if (runs.length === 1) return html`<details><summary>All ${keys.length} settings</summary>${list(keys)}</details>`;
  const differing = keys.filter((key) => !isSame(key));
  return html`${differing.length ? list(differing) : html`<p>All settings are the same.</p>`}
<details><summary>All ${keys.length} settings</summary>${list(keys)}</details>`;
}
