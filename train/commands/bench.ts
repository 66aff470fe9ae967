export { help, helpOf, run } from '../../bench/index.js';
