// Scores of a finished run, patient by patient: of its best and its last checkpoint, on the validation patients and on test patients.
// They are kept in the run's folder, so that a repeated command reads them.
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Gpu } from '../../engine/index.js';
import { type Case, casesToEvaluate, openDataset, splitDataset } from '../../train/data/datasets.js';
import { evaluateCases } from '../../train/evaluation/evaluate.js';
import { createPredictor } from '../../train/evaluation/predictor.js';
import { type CaseSummary, meanOverClasses, type Summary } from '../../train/evaluation/summary.js';
import { writeAtomically } from '../../train/files/atomic-file.js';
import { readLog } from '../../train/run/log.js';
import { runFiles } from '../../train/run/run-folder.js';
import { loadModel } from '../../train/run/trained-model.js';
import { mean } from './statistics.js';

/** Mean foreground Dice and HD95 (mm as the headers say; NaN where a structure is missing) of each patient, in the order of names. */
export interface PatientScores {
  readonly patients: readonly string[];
  readonly dice: readonly number[];
  readonly hd95: readonly (number | null)[];
}

export interface RunScores {
  readonly best: PatientScores;
  readonly last: PatientScores;
  /** Of patients that chose nothing, if there are any. */
  readonly test?: { readonly best: PatientScores; readonly last: PatientScores };
  /** The iteration of the best checkpoint. */
  readonly bestIteration: number;
  /** Means over the last quarter of the log, of what it holds: kept pixels, how right they are; and the last prototypes' cosines. */
  readonly selection: Readonly<Record<string, number>>;
  readonly cosines?: readonly number[];
  /** Norms of the terms' gradients and their cosines with the supervised one, means over the whole run. */
  readonly gradients?: Readonly<Record<string, number>>;
}

/** The patients that a claim is judged by. */
export interface Judges {
  readonly validation: readonly Case[];
  readonly test: readonly Case[] | undefined;
  /** What tells one set of test patients from another. */
  readonly key: string;
}

/** Reads who judges: the validation patients of `data`, and all of `test`, if given. */
export async function judgesIn(data: string, test: string | undefined): Promise<Judges> {
  const validation = splitDataset(await openDataset(data), { labeled: 1 }).val;
  if (test === undefined) return { validation, test: undefined, key: '' };
  const cases = casesToEvaluate(await openDataset(test), 'test');
  return { validation, test: cases, key: cases.map(({ id }) => id).join() };
}

/** The scores of a finished run. */
export async function scoresOf(gpu: Gpu, run: string, judges: Judges): Promise<RunScores> {
  const file = join(run, 'claim.json');
  if (existsSync(file)) {
    const { key, ...known } = JSON.parse(readFileSync(file, 'utf8')) as RunScores & { key: string };
    if (key === judges.key) return known;
  }
  const score = async (checkpoint: string, cases: readonly Case[]): Promise<PatientScores> => {
    const { model, config } = loadModel(gpu, { weights: join(run, checkpoint) });
    return byPatient((await evaluateCases(createPredictor(gpu, model, config.patch), cases, config)).metric_per_case);
  };
  const both = async (cases: readonly Case[]) => ({
    best: await score(runFiles.best, cases),
    last: await score(runFiles.last, cases),
  });
  const scores: RunScores = {
    ...(await both(judges.validation)),
    ...(judges.test && { test: await both(judges.test) }),
    ...toldBy(run),
  };
  writeAtomically(file, [new TextEncoder().encode(`${JSON.stringify({ key: judges.key, ...scores })}\n`)]);
  return scores;
}

/** Means over the volumes of a patient, over its classes. */
function byPatient(cases: readonly CaseSummary[]): PatientScores {
  const patients = [...new Set(cases.map((c) => c.case))].sort();
  const of = (patient: string, name: 'Dice' | 'HD95'): number[] =>
    cases
      .filter((c) => c.case === patient)
      .map((c) => meanOverClasses(c, name))
      .filter((value) => value !== null);
  return {
    patients,
    dice: patients.map((patient) => mean(of(patient, 'Dice'))),
    hd95: patients.map((patient) => {
      const known = of(patient, 'HD95');
      return known.length ? mean(known) : null;
    }),
  };
}

/** What a run's log tells beside its losses. */
function toldBy(run: string): Pick<RunScores, 'bestIteration' | 'selection' | 'cosines' | 'gradients'> {
  const log = readLog(join(run, runFiles.log));
  const numbers = (records: readonly Readonly<Record<string, unknown>>[]): Record<string, number> => {
    const names = [...new Set(records.flatMap((record) => Object.keys(record)))];
    const means = names.map((name): [string, number] => {
      const values = records
        .map((record) => record[name])
        .filter((value): value is number => typeof value === 'number' && value >= -1);
      return [name, mean(values)];
    });
    return Object.fromEntries(means.filter(([, value]) => Number.isFinite(value)));
  };
  const steps = log.filter((record) => !('validation' in record));
  const names = ['kept', 'keptAccuracy', 'droppedAccuracy', 'confidence'];
  const means = numbers(steps.slice(Math.floor(0.75 * steps.length)));
  const gradients = steps.flatMap(({ gradients }) => (gradients ? [gradients as Record<string, number>] : []));
  const cosines = steps.filter(({ cosines }) => cosines).at(-1)?.cosines as number[] | undefined;
  const validations = log.flatMap(({ iteration, validation }) =>
    validation ? [{ iteration, dice: (validation as Pick<Summary, 'foreground_mean'>).foreground_mean.Dice ?? 0 }] : [],
  );
  const most = Math.max(...validations.map(({ dice }) => dice));
  return {
    bestIteration: validations.find(({ dice }) => dice === most)?.iteration ?? 0,
    selection: Object.fromEntries(Object.entries(means).filter(([name]) => names.includes(name))),
    ...(cosines && { cosines }),
    ...(gradients.length && { gradients: numbers(gradients) }),
  };
}
