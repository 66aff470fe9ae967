// What the claim compares: the rows of its table, each a set of settings beyond the shared budget, and the studies that go with it.
// Everything else is a recipe: a file of train/protocols, acdc-strong unless a row names another.

import { readProtocol } from '../../train/settings/config-file.js';
import { resolveConfig } from '../../train/settings/settings.js';
import type { SweepRun } from '../../train/sweep/sweep.js';

/** One line of a table. */
export interface Row {
  readonly name: string;
  /** What it is, for the table's reader. */
  readonly about: string;
  /** Its protocol; acdc-strong unless given. */
  readonly recipe?: string;
  readonly settings: Readonly<Record<string, unknown>>;
  /** Its λ_max comes from the grid, which is the same for all rows. */
  readonly tuned?: boolean;
}

/** Rows that are trained and compared alike. */
export interface Study {
  readonly about: string;
  readonly rows: readonly Row[];
  readonly seeds: readonly number[];
  /** What the differences are taken to: names of rows. */
  readonly against: readonly string[];
}

/**
 * The budget that all rows share: a CPU's size, the same labelled slices seen by all. 48 pixels of 3 mm: the heart and its
 * neighbourhood of pictures whose headers say 1 mm.
 */
export const budget = {
  ...{ labeled: 3, size: 48, spacing: [3, 3], features: [8, 16, 32, 64], dropout: [0.05, 0.1, 0.2, 0.3] },
  ...{ batch: 8, labeledBatch: 4, lr: 0.05, iterations: 1500, evalEvery: 500, saveEvery: 500 },
};

/** λ_max, tried on the first seed. */
export const lambdas = [1, 3, 12] as const;

const supervised: Row = {
  name: 'supervised',
  about: 'labelled slices only, weak views',
  settings: { method: 'supervised', strong: 'none' },
};
const supervisedStrong: Row = {
  name: 'supervised-strong',
  about: 'labelled slices only, strong views and copy-paste',
  settings: { method: 'supervised' },
};
const mt: Row = {
  name: 'mt',
  about: 'mean teacher: MSE on all pixels',
  recipe: 'acdc-mt',
  settings: {},
  tuned: true,
};
const lccs: Row = {
  name: 'lccs',
  about: 'low-confidence consistency and class separation',
  settings: { method: 'lccs' },
  tuned: true,
};
const pseudoLabels: Row = {
  name: 'ce-all',
  about: "cross-entropy against the teacher's classes on all pixels",
  recipe: 'acdc-cutmix',
  settings: {},
  tuned: true,
};
const plus: Row = {
  name: 'lccs+',
  about: "lccs, the teacher's confidence decides what is kept",
  recipe: 'acdc-plus',
  settings: {},
  tuned: true,
};

const main: Study = {
  about: 'low-confidence consistency and class separation beside its baselines',
  rows: [
    supervised,
    supervisedStrong,
    mt,
    { name: 'uamt', about: 'uncertainty-aware mean teacher', settings: { method: 'uamt' }, tuned: true },
    { name: 'lccs-consistency', about: 'its first half', settings: { method: 'lccs-consistency' }, tuned: true },
    { name: 'lccs-separation', about: 'its second half', settings: { method: 'lccs-separation' }, tuned: true },
    lccs,
    pseudoLabels,
    { name: 'bcp', about: 'bidirectional copy-paste, its λ as published', recipe: 'acdc-bcp', settings: {} },
    plus,
  ],
  seeds: [1, 2, 3],
  against: ['mt', 'supervised-strong'],
};

const without = (name: string, about: string, settings: Record<string, unknown>): Row => ({
  name,
  about,
  settings: { ...lccs.settings, gradientsEvery: 100, ...settings },
});

/** All studies; `claim` is the first. */
export const studies: Readonly<Record<string, Study>> = {
  claim: main,
  ingredients: {
    about: 'lccs with one ingredient taken away at a time',
    rows: [
      without('whole', 'the recipe', {}),
      without('weak-views', 'no strong views', { strong: 'none' }),
      without('weak-labelled', 'strong views of unlabelled slices only', { strong: 'unlabeled' }),
      without('no-cutmix', 'strong views, nothing mixed', { cutmix: false }),
      without('joint-statistics', 'labelled and unlabelled items normalised together', { statistics: 'joint' }),
      without('all-pixels', 'consistency and separation on all pixels', { selection: 'all' }),
      without('no-separation', 'consistency only', { method: 'lccs-consistency' }),
      without('fast-teacher', 'EMA decay 0.9', { emaDecay: 0.9 }),
      without('slow-teacher', 'EMA decay 0.999', { emaDecay: 0.999 }),
    ],
    seeds: [1, 2],
    against: ['whole'],
  },
  separation: {
    about: 'kinds of class separation',
    rows: [
      without('proto-ce', 'cross-entropy over cosines, β 1', {}),
      without('proto-ce-0.4', 'β 0.4', { separationWeight: 0.4 }),
      without('proto-ce-2', 'β 2', { separationWeight: 2 }),
      without('proto-ce-raw', 'β 1, no projection', { projection: false }),
      without('pull', 'pull, β 1', { separation: 'pull' }),
      without('pull-raw', 'pull, no projection', { separation: 'pull', projection: false }),
      without('distance', 'distance, β 1', { separation: 'distance' }),
    ],
    seeds: [1, 2],
    against: ['proto-ce'],
  },
  labels: {
    about: '1 and 7 labelled patients',
    rows: [1, 7].flatMap((labeled) =>
      [supervised, supervisedStrong, mt, lccs, plus].map(({ tuned: _, ...row }) => ({
        ...row,
        name: `${row.name}-${labeled}`,
        about: `${row.about}; ${labeled} labelled`,
        settings: { ...row.settings, labeled },
      })),
    ),
    seeds: [1],
    against: [],
  },
  quick: {
    about: 'the order in miniature: too short to judge by',
    rows: [supervised, supervisedStrong, mt, lccs, plus].map((row) => ({
      ...row,
      tuned: false,
      settings: { ...row.settings, iterations: 400, evalEvery: 200, saveEvery: 200 },
    })),
    seeds: [1],
    against: ['mt', 'supervised-strong'],
  },
};

/** One run: a row at a seed and, where it is tuned, a λ. */
export interface Planned extends SweepRun {
  readonly row: Row;
  readonly seed: number;
  readonly lambda: number;
}

/** The run of a row; `lambda` replaces the recipe's. */
export function planned(row: Row, seed: number, lambda?: number): Planned {
  const own = { ...row.settings, seed, ...(lambda !== undefined && { consistencyWeight: lambda }) };
  const config = resolveConfig({ ...budget, ...own }, readProtocol(row.recipe ?? 'acdc-strong'));
  const group = `${row.name}${lambda === undefined ? '' : `_lambda-${lambda}`}`;
  const weight = config.method === 'bcp' ? config.pseudoWeight : config.consistencyWeight;
  return { row, seed, lambda: weight, config, group, name: `${group}_seed-${seed}` };
}
