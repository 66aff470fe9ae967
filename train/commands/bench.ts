// wgrad bench: the benchmarks, which are in bench/.
export { command, parts, run } from '../../bench/index.js';
