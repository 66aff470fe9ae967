// A trained model from a run folder or from a checkpoint, which carries its configuration.
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import type { Gpu } from '../engine/index.js';
import { type UNet, unet } from '../model/index.js';
import {
  CheckpointError,
  fromPyTorch,
  loadForeignTensors,
  loadTensors,
  type NamedArray,
  readSafetensors,
} from './checkpoint.js';
import { type Config, resolveConfig, UsageError } from './config.js';
import { runFiles } from './run-folder.js';

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
  const { metadata, arrays } = readSafetensors(path);
  const config = resolveConfig(
    metadata.config ? (JSON.parse(metadata.config) as Record<string, unknown>) : settingsOf(path, arrays),
  );
  const model = unet(gpu, {
    inChannels: 1,
    classes: config.classes,
    features: config.features,
    dropout: config.dropout,
  });
  if (from.role === 'teacher') loadTeacher(from.run, model);
  else if (metadata.config) loadTensors(path, model.state);
  else loadForeignTensors(path, model.state, () => false);
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

/** Channels and classes of a UNet that somebody else saved, from the shapes of its weights; all else is the protocol's. */
function settingsOf(path: string, arrays: ReadonlyMap<string, NamedArray>): Record<string, unknown> {
  const shapeOf = (name: string): readonly number[] | undefined =>
    (arrays.get(`${name}.weight`) ?? arrays.get(`module.${name}.weight`))?.shape;
  const features: number[] = [];
  for (let level = 0; ; level++) {
    const block = level === 0 ? 'encoder.in_conv' : `encoder.down${level}.maxpool_conv.1`;
    const outputs = shapeOf(`${block}.conv_conv.0`)?.[0];
    if (outputs === undefined) break;
    features.push(outputs);
  }
  const classes = shapeOf('decoder.out_conv')?.[0];
  if (features.length < 2 || classes === undefined) {
    throw new CheckpointError(
      `checkpoint: ${path} neither says its configuration nor holds a UNet under SSL4MIS's names (encoder.in_conv.conv_conv.0.weight …).`,
    );
  }
  return { features, classes };
}
