// A trained model from a run folder or from a checkpoint, which carries its configuration.
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import type { Gpu } from '../engine/index.js';
import { type UNet, unet } from '../model/index.js';
import { CheckpointError, loadTensors, readSafetensors } from './checkpoint.js';
import { type Config, resolveConfig, UsageError } from './config.js';
import { runFiles } from './training.js';

/** The student of a run's best checkpoint (the last one where nothing was validated), or of a checkpoint file. */
export function loadModel(gpu: Gpu, from: { run?: string; weights?: string }): { model: UNet; config: Config } {
  if (Boolean(from.run) === Boolean(from.weights))
    throw new UsageError('model: give either --run RUN or --weights FILE.');
  const path = from.weights ?? [runFiles.best, runFiles.last].map((name) => join(from.run!, name)).find(existsSync);
  if (!path) throw new UsageError(`model: '${from.run}' holds no checkpoint. Is it a run folder?`);
  const { config: text } = readSafetensors(path).metadata;
  if (!text)
    throw new CheckpointError(`checkpoint: ${path} does not say its configuration. Use one that wgrad train wrote.`);
  const config = resolveConfig(JSON.parse(text) as Record<string, unknown>);
  const model = unet(gpu, {
    inChannels: 1,
    classes: config.classes,
    features: config.features,
    dropout: config.dropout,
  });
  loadTensors(path, model.state);
  return { model, config };
}
