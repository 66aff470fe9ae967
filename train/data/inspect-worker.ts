// One of the threads that read a data set to inspect it: a case in, its facts out.
import { parentPort } from 'node:worker_threads';
import type { Reading } from './case-volume.js';
import { loadHdf5 } from './hdf5.js';
import { type CaseFacts, inspectCase } from './inspect-volume.js';
import type { Case } from './layouts.js';

export interface InspectQuestion {
  readonly index: number;
  readonly case: Case;
  readonly reading: Reading;
}

export interface InspectAnswer {
  readonly index: number;
  readonly fact: CaseFacts;
}

const port = parentPort!;
port.on('message', async ({ index, case: c, reading }: InspectQuestion) => {
  if (c.hdf5) await loadHdf5();
  port.postMessage({ index, fact: inspectCase(c, reading) } satisfies InspectAnswer);
});
