export { command, parts, run } from '../../bench/index.js';
