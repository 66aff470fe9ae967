// The progress line of a run: on a terminal one line that rewrites itself, elsewhere a plain line every few seconds. Rate, remaining time
// and shares of time are those of the last minute, measured by the loop, validations included. Also a line while kernels compile.

/** Where a run's time went, in milliseconds since it began. The rest is this process's own work on the training step. */
export interface Spent {
  /** Waiting for the loader's next batch. */
  data: number;
  /** Waiting for the GPU to end a step. */
  gpu: number;
  /** Validating. */
  validation: number;
}

export interface Progress {
  /** Called every iteration; prints what is due. */
  update(done: number, text: string, spent?: Spent): void;
  /** Ends the line. */
  end(): void;
}

/** Seconds as 1:02:03 or 2:03. */
export function clock(seconds: number): string {
  const whole = Math.max(0, Math.round(seconds));
  const [h, m, s] = [Math.floor(whole / 3600), Math.floor(whole / 60) % 60, whole % 60];
  const two = (n: number) => String(n).padStart(2, '0');
  return h ? `${h}:${two(m)}:${two(s)}` : `${m}:${two(s)}`;
}

const nothing: Spent = { data: 0, gpu: 0, validation: 0 };

interface Moment {
  done: number;
  at: number;
  spent: Spent;
}

/** A progress line for iterations `start` to `total`. The loop may pass in `spent` where its time went. */
export function createProgress(
  name: string,
  total: number,
  start = 0,
  out: NodeJS.WriteStream = process.stderr,
): Progress {
  const every = out.isTTY ? 200 : 10_000;
  const began = performance.now();
  let moments: Moment[] = [{ done: start, at: began, spent: nothing }];
  let printed = began;
  let isFirst = true;
  return {
    update(done, text, spent) {
      const now = performance.now();
      const moment = { done, at: now, spent: spent ? { ...spent } : nothing };
      const isDue = done >= total || now - printed >= every;
      if (isDue) print(moment, text, spent !== undefined);
      // The first iteration also compiles: it has no rate, and those of later ones count from its end.
      if (isFirst) moments = [moment];
      isFirst = false;
    },
    end() {
      if (out.isTTY) out.write('\n');
    },
  };

  function print(moment: Moment, text: string, withShares: boolean): void {
    const { done, at: now } = moment;
    printed = now;
    moments.push(moment);
    while (moments.length > 2 && now - moments[1]!.at > 60_000) moments.shift();
    const first = moments[0]!;
    const rate = (done - first.done) / Math.max(1e-9, (now - first.at) / 1000);
    const remaining = rate > 0 ? clock((total - done) / rate) : '?';
    const tells = !isFirst || done >= total;
    const parts = [
      `${name} ${done}/${total}`,
      ...(tells ? [rateText(rate), `${remaining} left`] : []),
      text,
      ...(tells && withShares ? [sharesText(first, moment)] : []),
    ];
    const line = parts.filter((part) => part !== '').join('  ');
    out.write(out.isTTY ? `\r\x1b[K${line.slice(0, Math.max(20, (out.columns ?? 120) - 1))}` : `${line}\n`);
  }
}

/** The rate in words; slow runs show seconds per iteration. */
const rateText = (rate: number): string =>
  rate > 0 && rate < 0.1 ? `${(1 / rate).toFixed(1)} s/it` : `${rate.toFixed(2)} it/s`;

/** Where the time between two moments went, in percent. */
function sharesText(from: Moment, to: Moment): string {
  const elapsed = Math.max(1e-9, to.at - from.at);
  const share = (name: keyof Spent) =>
    Math.min(100, Math.max(0, Math.round((100 * (to.spent[name] - from.spent[name])) / elapsed)));
  const [gpu, data, validation] = [share('gpu'), share('data'), share('validation')];
  const own = Math.max(0, 100 - gpu - data - validation);
  return `gpu ${gpu}% cpu ${own}% data ${data}%${validation ? ` validation ${validation}%` : ''}`;
}

/**
 * Waits for kernels to compile. After a second it shows on `out` how many are done: on a terminal a line that rewrites and removes itself,
 * elsewhere a plain line at most every ten seconds.
 */
export async function sayCompiling<T>(
  preparing: (options: { onProgress: (compiled: number, total: number) => void }) => Promise<T>,
  out: NodeJS.WriteStream = process.stderr,
): Promise<T> {
  const [patient, every] = [1000, out.isTTY ? 200 : 10_000];
  let due = performance.now() + patient;
  let count: string | undefined;
  let isShown = false;
  const say = (): void => {
    if (count === undefined || performance.now() < due) return;
    due = performance.now() + every;
    isShown = true;
    const line = `compiling kernels ${count}`;
    out.write(out.isTTY ? `\r\x1b[K${line}` : `${line}\n`);
  };
  const timer = setInterval(say, 200); // one kernel may take many seconds
  try {
    return await preparing({
      onProgress: (compiled, total) => {
        count = `${compiled}/${total}`;
        say();
      },
    });
  } finally {
    clearInterval(timer);
    if (isShown && out.isTTY) out.write('\r\x1b[K');
  }
}
