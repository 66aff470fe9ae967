// A run folder as training leaves it, of any length and without training: what the report's tests read.
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { drawSlices } from '../../train/pictures/slice-picture.js';

export interface FakeRun {
  method?: 'lccs' | 'supervised';
  iterations?: number;
  evalEvery?: number;
  /** Names of the cases in summary.json. */
  cases?: readonly string[];
  /** Added to every Dice. */
  shift?: number;
  config?: Record<string, unknown>;
  slices?: boolean;
}

const names = ['right ventricle', 'myocardium', 'left ventricle'];

/** Writes a run folder with falling losses, rising Dice, and scores that differ from case to case. */
export function writeFakeRun(folder: string, options: FakeRun = {}): void {
  const { method = 'lccs', iterations = 400, evalEvery = 50, shift = 0, slices = true } = options;
  const { cases = ['patient001_frame01', 'patient001_frame12', 'patient002_frame01'] } = options;
  mkdirSync(join(folder, 'slices'), { recursive: true });
  const json = (name: string, data: unknown) => writeFileSync(join(folder, name), `${JSON.stringify(data, null, 2)}\n`);
  json('config.json', {
    method,
    labeled: 7,
    seed: 1337,
    iterations,
    classes: 4,
    lr: 0.01,
    features: [16, 32],
    ...options.config,
  });
  json('environment.json', { adapter: { description: 'a test' }, versions: { wgrad: '0.1.0' }, commit: 'abc' });
  const dice = (k: number, at: number) => (0.9 - 0.1 * k) * (1 - Math.exp((-4 * at) / iterations)) + shift;
  const score = (k: number, at: number) => ({
    Dice: dice(k, at),
    Jaccard: dice(k, at) / 2,
    HD95: 40 - 30 * dice(k, at),
    ASD: 2,
    missed: 0,
    invented: 0,
  });
  const mean = (at: number) => Object.fromEntries(names.map((_, k) => [k + 1, score(k, at)]));
  const lines: unknown[] = [];
  for (let i = 0; i < iterations; i++) {
    const fall = Math.exp((-5 * i) / iterations);
    const noise = 0.1 * Math.sin(i * 12.9898) ** 2;
    const validates = (i + 1) % evalEvery === 0;
    lines.push({
      iteration: i,
      loss: fall + noise,
      ce: 1.2 * fall + noise,
      dice: 0.8 * fall + noise,
      ...(method === 'lccs' && {
        consistency: 0.01 + 0.01 * noise,
        separation: 0.3 * fall + 0.02,
        kept: 0.05 + 0.9 * fall,
        keptAccuracy: i % 7 ? 0.6 + noise : -1,
        droppedAccuracy: 0.99,
        confidence: 0.95 - 0.5 * fall,
      }),
      lr: 0.01 * (1 - i / iterations) ** 0.9,
      consistencyWeight: method === 'lccs' ? 0.1 * (1 - fall) : 0,
      threshold: 0.95,
      ...(method === 'lccs' &&
        i % 100 === 0 && {
          gradients: {
            ...{ supervised: fall, consistency: 0.1 * fall, separation: 0.05 },
            ...{ consistencyCosine: 0.2 - noise, separationCosine: noise },
          },
        }),
      ...(method === 'lccs' &&
        validates && { cosines: [1, 0.2, 0.3, -0.1, 0.2, 1, 0.5, 0.4, 0.3, 0.5, 1, fall, -0.1, 0.4, fall, 1] }),
    });
    if (validates)
      lines.push({ iteration: i + 1, validation: { mean: mean(i + 1), foreground_mean: score(1, i + 1) } });
  }
  writeFileSync(join(folder, 'log.jsonl'), lines.map((line) => `${JSON.stringify(line)}\n`).join(''));
  json('summary.json', {
    metric_per_case: cases.map((name, i) => ({
      case: name,
      image: `${name}.nii.gz`,
      metrics: Object.fromEntries(
        names.map((_, k) => {
          const missed = i === 1 && k === 0;
          const value = missed ? 0 : 0.5 + 0.1 * ((7 * i + 3 * k) % 5) + shift / 10;
          return [
            k + 1,
            { Dice: value, HD95: missed ? null : 20 - 10 * value + i, missed: missed ? 1 : 0, invented: 0 },
          ];
        }),
      ),
    })),
    mean: mean(iterations),
    std: { 1: { Dice: 0.05 } },
    foreground_mean: score(1, iterations),
    confusion: [
      [1_000_000, 10, 20, 30],
      [400, 5000, 0, 0],
      [100, 50, 700, 150],
      [0, 0, 0, 0],
    ],
  });
  if (slices) {
    const size = 32;
    const image = Float32Array.from({ length: size * size }, (_, i) => Math.sin(i / 50));
    const labels = Uint8Array.from({ length: size * size }, (_, i) => (i > 300 && i < 600 ? 1 + (i % 3) : 0));
    const cells = [
      { title: 'ground truth', labels },
      { title: 'kept', mask: labels },
    ];
    for (const at of [evalEvery, iterations]) {
      drawSlices(join(folder, 'slices', `${String(at).padStart(6, '0')}.png`), [
        { caption: 'patient001', height: size, width: size, image, cells },
      ]);
    }
  }
}
