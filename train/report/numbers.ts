// How the report writes numbers, and the row of numbers that sums a run up: in the page's table and on stdout.
import type { RunData } from './run-data.js';

/** A number with so many decimals; a dash where there is none. */
export const fixed = (value: number | null | undefined, decimals: number): string =>
  value === null || value === undefined || !Number.isFinite(value) ? '–' : value.toFixed(decimals);

export const percent = (value: number | null | undefined): string =>
  value === null || value === undefined || !Number.isFinite(value) ? '–' : `${(100 * value).toFixed(1)} %`;

/** A setting as text. */
export const settingText = (value: unknown): string =>
  value === undefined
    ? '–'
    : Array.isArray(value)
      ? value.join(', ')
      : typeof value === 'number'
        ? shortest(value)
        : String(value);

const shortest = (value: number): string => String(Number(value.toPrecision(6)));

/** One cell of a run's row: how it reads, what it is, and whether more or less of it is better. */
export interface Cell {
  key: string;
  title: string;
  text: string;
  value: number | string | null;
  better?: 'more' | 'less';
}

/** What sums a run up: settings, scores of the best validation, what was kept in the last quarter of the training so far. */
export function overview(run: RunData): Cell[] {
  const { config, summary, best, classes, iterations, training } = run;
  const mean = summary?.mean ?? best?.mean ?? {};
  const all = summary?.foreground ?? best?.foreground ?? {};
  const setting = (key: string, title: string): Cell => {
    const value = config[key];
    const isPlain = typeof value === 'number' || typeof value === 'string';
    return { key, title, text: settingText(value), value: isPlain ? value : null };
  };
  const dice = (key: string, name: string, value: number | null = null): Cell => {
    return { key: `dice_${key}`, title: `Dice ${name}`, text: fixed(value, 4), value, better: 'more' };
  };
  const share = (key: string, title: string): Cell => {
    const value = training.get(key)?.late ?? null;
    return { key, title, text: percent(value), value };
  };
  return [
    setting('method', 'method'),
    setting('labeled', 'labelled'),
    setting('seed', 'seed'),
    { key: 'iterations', title: 'iterations', text: String(iterations), value: iterations },
    ...classes.slice(1).map((name, i) => dice(String(i + 1), name, mean[i + 1]?.Dice)),
    dice('mean', 'mean', all.Dice),
    { key: 'hd95_mean', title: 'HD95 mm', text: fixed(all.HD95, 2), value: all.HD95 ?? null, better: 'less' },
    share('kept', 'kept'),
    share('keptAccuracy', 'accuracy of kept'),
    share('droppedAccuracy', 'accuracy of dropped'),
  ];
}

/** The row with most columns: runs may differ in their classes. */
export const widest = (rows: readonly Cell[][]): Cell[] =>
  rows.reduce((most, row) => (row.length > most.length ? row : most), rows[0] ?? []);

/** For each of these columns, the runs that are best in it; none where there is nothing to compare. */
export function bestOfColumns(heads: readonly Cell[], rows: readonly (readonly Cell[])[]): Set<number>[] {
  return heads.map((head) => {
    const values = rows.map((row) => row.find(({ key }) => key === head.key)?.value);
    const known = values.filter((value) => typeof value === 'number');
    if (!head.better || known.length < 2 || new Set(known).size < 2) return new Set();
    const best = head.better === 'more' ? Math.max(...known) : Math.min(...known);
    return new Set(values.flatMap((value, i) => (value === best ? [i] : [])));
  });
}

/** The rows as a table for a terminal; the best of several runs are marked. */
export function overviewText(runs: readonly RunData[]): string {
  const rows = runs.map(overview);
  const wide = widest(rows);
  const best = bestOfColumns(wide, rows);
  const cells = rows.map((row, i) =>
    wide.map(({ key }, column) => {
      const text = row.find((cell) => cell.key === key)?.text ?? '–';
      return best[column]!.has(i) ? `${text} *` : `${text}${best[column]!.size ? '  ' : ''}`;
    }),
  );
  const table = [['run', ...wide.map(({ title }) => title)], ...cells.map((row, i) => [runs[i]!.name, ...row])];
  const widths = table[0]!.map((_, column) => Math.max(...table.map((row) => [...row[column]!].length)));
  const line = (row: string[]) =>
    row.map((text, column) => (column < 2 ? text.padEnd(widths[column]!) : text.padStart(widths[column]!))).join('  ');
  return table.map((row) => line(row).trimEnd()).join('\n');
}
