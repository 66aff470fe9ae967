// ONNX's node tests on wgrad: prints the table of engine/ONNX.md.
//
//   npm run onnx -- [--data DIR] [--only PART] [--list] [--write]
//
// --data is the folder of the tests (Debian's libonnx-testdata has it as /usr/share/libonnx-testdata/data/node, the default), --only runs
// those whose name contains PART, --list prints what became of each, and --write puts the table into engine/ONNX.md.
import { parseArgs } from 'node:util';
import { openDevice } from '../../engine/node.js';
import { dataFolder, readDocument, writeDocument } from './document.js';
import { runTests } from './run.js';
import { summary, tableOf } from './table.js';

const { values } = parseArgs({
  options: {
    data: { type: 'string', default: dataFolder },
    only: { type: 'string', default: '' },
    list: { type: 'boolean', default: false },
    write: { type: 'boolean', default: false },
  },
});
if (values.write && values.only) throw new Error('onnx: --only runs a part, expected all for --write. Leave one out.');
const gpu = await openDevice();
const verdicts = await runTests(gpu, values.data, values.only);
if (values.list) {
  for (const { name, calls, why, failure, lacksHalf } of verdicts) {
    const became = failure ? `FAILED: ${failure}` : lacksHalf ? 'needs f16' : (why ?? `${calls} calls`);
    console.log(`${name}  ${became}`);
  }
} else {
  console.log(`${summary(verdicts)}\n\n${tableOf(verdicts)}`);
}
if (values.write) writeDocument({ ...readDocument(), summary: summary(verdicts), table: tableOf(verdicts) });
process.exitCode = verdicts.some(({ failure }) => failure) ? 1 : 0;
gpu.close();
