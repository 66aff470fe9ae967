// The progress line says where a run is and where its time goes, on a terminal and in a file.
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { clock, createProgress, sayCompiling } from '../../train/training/progress.js';
import { refuses } from '../refuses.js';

const test = suite('progress');

test('clock', () => {
  assert.equal([0, 59.4, 59.6, 61, 3599, 3661, -5, 360000].map(clock), [
    '0:00',
    '0:59',
    '1:00',
    '1:01',
    '59:59',
    '1:01:01',
    '0:00',
    '100:00:00',
  ]);
});

/** Runs `work` with a clock that only `tick` moves, and returns what the progress line wrote. */
function written(
  stream: { isTTY?: boolean; columns?: number },
  work: (progress: ReturnType<typeof createProgress>, tick: (seconds: number) => void) => void,
  start = 0,
): string[] {
  const lines: string[] = [];
  const out = { ...stream, write: (text: string) => lines.push(text) } as unknown as NodeJS.WriteStream;
  const { now } = performance;
  let time = 1000;
  performance.now = () => time;
  try {
    const progress = createProgress('mt', 100, start, out);
    work(progress, (seconds) => {
      time += 1000 * seconds;
    });
    progress.end();
  } finally {
    performance.now = now;
  }
  return lines;
}

test('in a file: a plain line every ten seconds and one at the end, with rate and remaining time', () => {
  const lines = written({}, (progress, tick) => {
    for (let done = 1; done <= 100; done++) {
      tick(0.5);
      progress.update(done, `loss ${done}`);
    }
  });
  assert.is(lines.length, 5);
  assert.is(lines[0], 'mt 20/100  2.00 it/s  0:40 left  loss 20\n');
  assert.is(lines.at(-1), 'mt 100/100  2.00 it/s  0:00 left  loss 100\n');
});

test('a resumed run counts its rate from where it went on', () => {
  const lines = written(
    {},
    (progress, tick) => {
      tick(1);
      progress.update(51, 'x');
      tick(9);
      progress.update(60, 'x');
    },
    50,
  );
  assert.equal(lines, ['mt 60/100  1.00 it/s  0:40 left  x\n']);
});

test('the rate is that of the last minute', () => {
  const lines = written({}, (progress, tick) => {
    for (let done = 1; done <= 20; done++) {
      tick(60);
      progress.update(done, '');
    }
    for (let done = 21; done <= 99; done++) {
      tick(1);
      progress.update(done, '');
    }
    tick(1);
    progress.update(100, '');
  });
  assert.match(lines.at(-1)!, /1\.00 it\/s/);
});

test('on a terminal: one line that rewrites itself within its width, and ends', () => {
  const lines = written({ isTTY: true, columns: 40 }, (progress, tick) => {
    for (let done = 1; done <= 10; done++) {
      tick(0.1);
      progress.update(done, 'a very long list of losses that does not fit');
    }
  });
  assert.is(lines.at(-1), '\n');
  const drawn = lines.slice(0, -1);
  assert.is(drawn.length, 5);
  for (const line of drawn) {
    assert.ok(line.startsWith('\r\x1b[K'), JSON.stringify(line));
    assert.not(line.includes('\n'));
    assert.is(line.length, 4 + 39);
  }
});

test('where the time went: waits over the last minute, the rest is this process', () => {
  const lines = written({}, (progress, tick) => {
    let [data, gpu, validation] = [0, 0, 0];
    for (let done = 1; done <= 100; done++) {
      tick(1);
      const late = done > 30; // the first half minute waits for data only, the last minute for the GPU
      data += late ? 50 : 1000;
      gpu += late ? 700 : 0;
      validation += late ? 100 : 0;
      progress.update(done, '', { data, gpu, validation });
    }
  });
  assert.match(lines[2]!, /gpu 0% cpu 0% data 100%\n$/);
  assert.match(lines.at(-1)!, /gpu 70% cpu 15% data 5% validation 10%\n$/);
});

test('the first iteration, which also compiles, does not count once there are others', () => {
  const lines = written({}, (progress, tick) => {
    tick(30);
    progress.update(1, '');
    for (let done = 2; done <= 21; done++) {
      tick(0.5);
      progress.update(done, '');
    }
  });
  assert.equal(lines, ['mt 1/100\n', 'mt 21/100  2.00 it/s  0:40 left\n']);
});

test('an iteration of many seconds is told in seconds', () => {
  const lines = written({}, (progress, tick) => {
    for (const done of [1, 2]) {
      tick(25);
      progress.update(done, '');
    }
  });
  assert.equal(lines, ['mt 1/100\n', 'mt 2/100  25.0 s/it  40:50 left\n']);
});

/** What is said while kernels compile; `work` says how many are compiled at which millisecond since it began. */
async function saidOfCompiling(stream: { isTTY?: boolean }, counts: readonly [number, number][]): Promise<string[]> {
  const lines: string[] = [];
  const out = { ...stream, write: (text: string) => lines.push(text) } as unknown as NodeJS.WriteStream;
  const { now } = performance;
  let time = 1000;
  performance.now = () => time;
  try {
    const result = await sayCompiling(async ({ onProgress }) => {
      for (const [at, compiled] of counts) {
        time = 1000 + at;
        onProgress(compiled, 160);
      }
      return 'ready';
    }, out);
    assert.is(result, 'ready');
  } finally {
    performance.now = now;
  }
  return lines;
}

test('kernels that compile within a second are not spoken of', async () => {
  for (const isTTY of [true, false]) {
    assert.equal(
      await saidOfCompiling({ isTTY }, [
        [0, 0],
        [400, 80],
        [990, 160],
      ]),
      [],
    );
  }
});

test('slow kernels: in a file a line every ten seconds at most, on a terminal one line that goes', async () => {
  const counts = Array.from({ length: 41 }, (_, i): [number, number] => [600 * i, 4 * i]); // 24 seconds
  const lines = await saidOfCompiling({}, counts);
  assert.equal(lines, ['compiling kernels 8/160\n', 'compiling kernels 76/160\n', 'compiling kernels 144/160\n']);
  const drawn = await saidOfCompiling({ isTTY: true }, counts);
  assert.is(drawn[0], '\r\x1b[Kcompiling kernels 8/160');
  assert.is(drawn.length, 41 - 2 + 1);
  assert.is(drawn.at(-1), '\r\x1b[K');
  assert.not(drawn.some((text) => text.includes('\n')));
});

test('a kernel that takes long is spoken of while it compiles; what fails is thrown and the line is gone', async () => {
  const lines: string[] = [];
  const out = { isTTY: true, write: (text: string) => lines.push(text) } as unknown as NodeJS.WriteStream;
  const failing = sayCompiling(async ({ onProgress }) => {
    onProgress(0, 3);
    await new Promise((resolve) => setTimeout(resolve, 1500));
    throw new Error('does not compile');
  }, out);
  await refuses(() => failing, Error, /does not compile/);
  assert.match(lines[0]!, /compiling kernels 0\/3$/);
  assert.is(lines.at(-1), '\r\x1b[K');
});

test.run();
