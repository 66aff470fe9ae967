// The claim as text and as a picture: a line a row, the difference to its baselines, and what was kept.
import { type Color, createCanvas, drawLine, drawText, fillRectangle, textWidth } from '../../train/pictures/canvas.js';
import type { Picture } from '../../train/pictures/png.js';
import { classColors } from '../../train/pictures/slice-picture.js';
import type { Row, Study } from './plan.js';
import type { PatientScores, RunScores } from './scores.js';
import { type Difference, deviation, mean, pairedDifference } from './statistics.js';

/** A row's finished runs, a seed each. */
export interface Finished {
  readonly row: Row;
  readonly lambda: number;
  readonly seeds: readonly number[];
  readonly scores: readonly RunScores[];
}

/** Which of a run's scores are meant. */
export type Which = 'best' | 'last' | 'test-best' | 'test-last';

export const scoresAt = (run: RunScores, which: Which): PatientScores => {
  const checkpoint = which.endsWith('best') ? 'best' : 'last';
  return which.startsWith('test') ? run.test![checkpoint] : run[checkpoint];
};

/** Mean foreground Dice of each seed. */
export const diceOf = ({ scores }: Finished, which: Which): number[] =>
  scores.map((run) => mean(scoresAt(run, which).dice));

const hd95Of = ({ scores }: Finished, which: Which): number[] =>
  scores.map((run) => mean(scoresAt(run, which).hd95.filter((value) => value !== null)));

/** How far a row is ahead of another, over the seeds that both have. */
export function ahead(row: Finished, other: Finished, which: Which): Difference | undefined {
  const shared = row.seeds.filter((seed) => other.seeds.includes(seed));
  if (!shared.length || row === other) return undefined;
  const of = ({ seeds, scores }: Finished) => shared.map((seed) => scoresAt(scores[seeds.indexOf(seed)]!, which).dice);
  return pairedDifference(of(row), of(other));
}

const spread = (values: readonly number[], digits: number): string =>
  `${mean(values).toFixed(digits)}${values.length > 1 ? ` ± ${deviation(values).toFixed(digits)}` : ''}`;

const signed = (value: number): string => `${value < 0 ? '−' : '+'}${Math.abs(value).toFixed(3)}`;

const differenceText = (difference: Difference | undefined): string =>
  difference
    ? `${signed(difference.mean)} ± ${difference.error.toFixed(3)} [${difference.interval.map(signed).join(', ')}]`
    : '';

/** A Markdown table of a study. */
export function claimTable(study: Study, rows: readonly Finished[], which: readonly Which[]): string {
  const baselines = study.against.flatMap((name) => rows.filter(({ row }) => row.name === name));
  const judged = which.find((one) => one === 'test-last') ?? 'last';
  const heads = [
    'row',
    'λ',
    'seeds',
    ...which.map((one) => `Dice ${one}`),
    `HD95 ${judged}`,
    'kept',
    'right of kept',
    ...baselines.map(({ row }) => `${judged}: ahead of ${row.name}`),
  ];
  const lines = rows.map((row) => {
    const told = (name: string) => {
      const values = row.scores.flatMap(({ selection }) => (selection[name] === undefined ? [] : [selection[name]!]));
      return values.length ? `${(100 * mean(values)).toFixed(1)} %` : '';
    };
    return [
      row.row.name,
      row.row.settings.method === 'supervised' ? '' : String(row.lambda),
      row.seeds.join(' '),
      ...which.map((one) => spread(diceOf(row, one), 3)),
      spread(hd95Of(row, judged), 2),
      told('kept'),
      told('keptAccuracy'),
      ...baselines.map((baseline) => differenceText(ahead(row, baseline, judged))),
    ];
  });
  const widths = heads.map((head, c) => Math.max(head.length, ...lines.map((line) => line[c]!.length)));
  const line = (cells: readonly string[]) => `| ${cells.map((cell, c) => cell.padEnd(widths[c]!)).join(' | ')} |`;
  return [line(heads), line(widths.map((width) => '-'.repeat(width))), ...lines.map(line)].join('\n');
}

const [white, grey, dark, light]: Color[] = [
  [255, 255, 255],
  [150, 150, 150],
  [40, 40, 40],
  [230, 230, 230],
];

/** A bar a row: the mean over seeds of Dice, a tick a seed. */
export function claimPicture(study: Study, rows: readonly Finished[], which: Which): Picture {
  const [left, right, rowHeight, head] = [260, 40, 34, 56];
  const width = 960;
  const values = rows.map((row) => diceOf(row, which));
  const all = values.flat();
  const low = Math.floor(20 * Math.min(...all) - 0.5) / 20;
  const high = Math.ceil(20 * Math.max(...all) + 0.2) / 20;
  const x = (value: number): number => left + ((value - low) / (high - low)) * (width - left - right);
  const height = head + rows.length * rowHeight + 40;
  const canvas = createCanvas(width, height, white!);
  const patients = which.startsWith('test') ? 'test' : 'validation';
  const checkpoint = which.endsWith('best') ? 'best' : 'last';
  const title = `Dice of ${patients} patients, ${checkpoint} checkpoint: mean, and a mark a seed`;
  drawText(canvas, 20, 14, title, dark!, 2);
  for (let tick = Math.round(20 * low); tick <= Math.round(20 * high); tick++) {
    const at = Math.round(x(tick / 20));
    fillRectangle(canvas, at, head - 8, 1, rows.length * rowHeight + 8, light!);
    const text = (tick / 20).toFixed(2);
    drawText(canvas, at - textWidth(text, 2) / 2, height - 30, text, dark!, 2);
  }
  rows.forEach(({ row }, i) => {
    const y = head + i * rowHeight;
    const own = values[i]!;
    drawText(canvas, left - 16 - textWidth(row.name, 2), y + 6, row.name, dark!, 2);
    const color = study.against.includes(row.name) ? grey! : classColors[3]!;
    fillRectangle(canvas, left, y + 4, Math.round(x(mean(own))) - left, rowHeight - 14, color);
    for (const value of own) {
      const at = x(value);
      drawLine(
        canvas,
        [
          [at, y + 1],
          [at, y + rowHeight - 7],
        ],
        dark!,
        2,
      );
    }
  });
  return canvas;
}
