// Which charts a report has. Related quantities of one run share a chart; with several runs, each quantity has its own chart and
// the runs lie over each other.
import type { RunData, Series } from './run-data.js';

export interface Line extends Series {
  name: string;
  /** Selects colour and dash: see `lookOf`. */
  style: number;
}

export interface Chart {
  title: string;
  lines: Line[];
  /** The end of the horizontal axis. */
  last: number;
  /** share: from 0, to 1 if it comes near; positive: from 0, or on a log scale. */
  range: 'share' | 'positive' | 'any';
}

export interface Group {
  title: string;
  charts: Chart[];
  /** Quantities that never change: they need no chart. */
  constants: string[];
}

interface Quantity {
  /** The line's name, beside others of its panel. */
  name: string;
  /** The chart's title, where the quantity has its own. */
  title: string;
  of(run: RunData): Series | undefined;
}

interface Panel {
  title: string;
  range: Chart['range'];
  quantities: Quantity[];
  /** The quantities stay together with several runs, too: one chart a run. */
  byRun?: boolean;
}

/** Every chart of these runs that has a line. */
export function chartGroups(runs: readonly RunData[]): Group[] {
  const classes = runs.reduce((most, run) => (run.classes.length > most.length ? run.classes : most), [] as string[]);
  const scores = (metric: string, title: string): Panel['quantities'] =>
    ['mean', ...classes.slice(1)].map((name, k) => ({
      name,
      title: `${title}, ${name}`,
      of: (run) => run.validation.get(k ? String(k) : 'mean')?.get(metric),
    }));
  const cosines = classes.flatMap((first, i) =>
    classes.slice(i + 1).map((second, j): Quantity => {
      const name = `${first} · ${second}`;
      return { name, title: name, of: (run) => run.cosines?.pairs.get(`${i} ${i + 1 + j}`) };
    }),
  );
  const known = new Set<string>();
  const logged = (key: string, title: string, name = title): Quantity => {
    known.add(key);
    return { name, title, of: (run) => run.training.get(key)?.series };
  };
  const alone = (key: string, title: string, range: Chart['range']): Panel => ({
    title,
    range,
    quantities: [logged(key, title)],
  });
  const plan: { title: string; panels: Panel[] }[] = [
    {
      title: 'Losses',
      panels: [
        {
          title: 'Supervised loss and total',
          range: 'positive',
          quantities: [logged('loss', 'Total loss'), logged('ce', 'Cross-entropy'), logged('dice', 'Dice loss')],
        },
        {
          title: 'Unsupervised terms',
          range: 'positive',
          quantities: [logged('consistency', 'Consistency'), logged('separation', 'Class separation')],
        },
      ],
    },
    {
      title: 'Validation',
      panels: [
        { title: 'Dice', range: 'share', quantities: scores('Dice', 'Dice') },
        { title: 'HD95 in mm', range: 'positive', quantities: scores('HD95', 'HD95 in mm') },
      ],
    },
    {
      title: 'Unlabelled pixels',
      panels: [
        alone('kept', 'Fraction kept', 'share'),
        {
          title: 'Accuracy of the student',
          range: 'share',
          quantities: [
            logged('keptAccuracy', 'Accuracy on kept pixels', 'on kept pixels'),
            logged('droppedAccuracy', 'Accuracy on dropped pixels', 'on dropped pixels'),
          ],
        },
        alone('confidence', 'Mean confidence', 'share'),
      ],
    },
    {
      title: 'Gradients',
      panels: [
        {
          title: 'Norm of each term’s gradient',
          range: 'positive',
          quantities: [
            logged('gradients.supervised', 'Gradient of the supervised loss', 'supervised'),
            logged('gradients.consistency', 'Gradient of λ · consistency', 'λ · consistency'),
            logged('gradients.separation', 'Gradient of λ · β · separation', 'λ · β · separation'),
          ],
        },
        {
          title: 'Cosine with the supervised gradient',
          range: 'any',
          quantities: [
            logged('gradients.consistencyCosine', 'Cosine of consistency and supervised gradient', 'consistency'),
            logged('gradients.separationCosine', 'Cosine of separation and supervised gradient', 'separation'),
          ],
        },
      ],
    },
    {
      title: 'Prototypes',
      panels: [{ title: 'Cosines between prototypes', range: 'any', quantities: cosines, byRun: true }],
    },
    {
      title: 'Schedule',
      panels: [
        alone('lr', 'Learning rate', 'positive'),
        alone('consistencyWeight', 'Consistency weight', 'positive'),
        alone('threshold', 'Threshold', 'share'),
        {
          title: 'Threshold by class',
          range: 'share',
          quantities: classes.map((name, k) => logged(`threshold${k}`, `Threshold of ${name}`, name)),
        },
      ],
    },
  ];
  const others = [...new Set(runs.flatMap((run) => [...run.training.keys()]))].filter((key) => !known.has(key));
  plan.push({
    title: 'Other numbers',
    panels: others.map((key) => alone(key, key, 'any')),
  });
  const groups = plan.map(({ title, panels }): Group => {
    const charts: Chart[] = [];
    const constants: string[] = [];
    const add = (name: string, range: Chart['range'], lines: Line[]) => {
      if (!lines.some(({ y }) => y.some((v) => v !== null))) return;
      const constant = constantOf(lines);
      if (constant === undefined) charts.push({ title: name, range, lines, last: lastOf(runs) });
      else constants.push(`${name}: ${constant} throughout`);
    };
    for (const { title: name, range, quantities, byRun } of panels) {
      if (runs.length > 1 && !byRun) {
        for (const { title: own, of } of quantities) add(own, range, linesOf(runs.map((run) => [run.name, of(run)])));
        continue;
      }
      for (const run of runs) {
        const lines = linesOf(quantities.map((quantity) => [quantity.name, quantity.of(run)]));
        add(runs.length > 1 ? `${name}, ${run.name}` : name, range, lines);
      }
    }
    return { title, charts, constants };
  });
  return groups.filter(({ charts, constants }) => charts.length || constants.length);
}

/** Lines of the series that are there; a line keeps its colour where others are missing. */
const linesOf = (series: readonly (readonly [string, Series | undefined])[]): Line[] =>
  series.flatMap(([name, one], i) => (one ? [{ name, style: i % styles, ...one }] : []));

const dashes = [[], [7, 3], [2, 3], [9, 3, 2, 3], [12, 3], [4, 2]];

/** How many lines are told apart: six colours, each with two dashes. */
export const styles = 2 * dashes.length;

/** Colour and dash of a line: every colour has dashes of its own, so that colour is never the only cue. */
export function lookOf(style: number): { color: number; dash: number[] } {
  const color = style % dashes.length;
  return { color, dash: dashes[(style + 2 * Math.floor(style / dashes.length)) % dashes.length]! };
}

/** The one value of all lines of more than two points; undefined where something changes. */
function constantOf(lines: readonly Line[]): number | undefined {
  const values = new Set(lines.flatMap(({ y, low, high }) => [...y, ...(low ?? []), ...(high ?? [])]));
  const [value] = values;
  return values.size === 1 && typeof value === 'number' && lines.every(({ x }) => x.length > 2) ? value : undefined;
}

const lastOf = (runs: readonly RunData[]): number => Math.max(1, ...runs.map(({ iterations }) => iterations));
