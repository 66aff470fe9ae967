export { help, run } from '../../bench/index.js';
