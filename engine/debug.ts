// Where time and memory go, and what is wrong (`wgrad/debug`): re-exports only.
export { environmentFlags, type Flags } from './flags.js';
export { memoryOf, trim } from './memory.js';
export { type LaunchTime, type ProfileRow, profileTable, summarize } from './profile.js';
export { verifyDevice } from './verify.js';
