// Every op: one line each.
export { createRandom, type Random } from './random.js';
