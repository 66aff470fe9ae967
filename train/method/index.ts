// The paper's method as a library that knows no files, its ops and its trainer: re-exports only. It runs in a browser as under Node;
// `wgrad/train` adds the run.
export * from '../../engine/method.js';
export { UsageError } from '../files/usage-error.js';
export { type Config, type ConfigKey, methods, resolveConfig, resolveSaved } from '../settings/settings.js';
export { gradientNames } from './gradients.js';
export { createNetwork, type NetworkConfig, networkSettings } from './network.js';
export {
  createTrainer,
  metricNames,
  type Schedule,
  type ShownViews,
  type StepResult,
  type Trainer,
} from './trainer.js';
