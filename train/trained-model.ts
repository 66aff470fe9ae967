// A trained model from a run folder or from a checkpoint, which carries its configuration.
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import type { Gpu } from '../engine/index.js';
import { type UNet, unet } from '../model/index.js';
import { CheckpointError, fromPyTorch, loadTensors, readSafetensors } from './checkpoint.js';
import { type Config, resolveConfig, UsageError } from './config.js';
import { runFiles } from './training.js';

/**
 * The student of a run's best checkpoint (the last one where nothing was validated), or of a checkpoint file; or the teacher of a
 * run's last state, the only place where it is kept.
 */
export function loadModel(
  gpu: Gpu,
  from: { run?: string; weights?: string; role?: 'student' | 'teacher' },
): { model: UNet; config: Config } {
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
  if (from.role === 'teacher') loadTeacher(from.run, model);
  else loadTensors(path, model.state);
  return { model, config };
}

function loadTeacher(run: string | undefined, model: UNet): void {
  if (!run) throw new UsageError('model: a teacher is kept in a run folder only. Give --run RUN.');
  const path = join(run, runFiles.state);
  const { arrays } = readSafetensors(path);
  for (const [name, t] of model.state) {
    const found = arrays.get(`teacher.${name}`);
    if (!found)
      throw new CheckpointError(
        `checkpoint: ${path} holds no teacher ('teacher.${name}' is missing). Did the method have one?`,
      );
    const { shape, data } = fromPyTorch(found);
    if (shape.join() !== t.shape.join()) {
      throw new CheckpointError(
        `checkpoint: 'teacher.${name}' in ${path} has shape [${shape}], expected [${t.shape}].`,
      );
    }
    t.write(data);
  }
}
