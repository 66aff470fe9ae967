// Compiles a step for a card that is not here: starts the program that does so, and reads what the compiler says of each kernel.
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { createReadStream } from 'node:fs';
import { mkdtemp, open, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { readAmd } from './amd.js';
import { type Card, type CardName, type Compiled, cards, hotShare, leastMs, occupancy } from './cards.js';
import { mark, type Order, type StepKernel, type StepKernels } from './compile-step.js';
import { environmentFor } from './drivers.js';
import { readNak } from './nak.js';

/** A kernel of a step as a compiler sees it. Bytes, operations and milliseconds are those of all its launches. */
export interface PaperKernel {
  readonly kernel: string;
  readonly launches: number;
  /** Threads of a workgroup. */
  readonly threads: number;
  /** Registers of a thread, those that did not fit, and the bytes of memory a thread uses in their place. */
  readonly registers: number;
  readonly spills: number;
  readonly scalarSpills: number;
  readonly scratchBytes: number;
  readonly workgroupBytes: number;
  readonly instructions: number;
  /** Waves that fit, as a share of the most that the hardware holds. */
  readonly occupancy: number;
  /** Multiply-adds of the hottest loop as a share of the peak, and what is busiest in it; where it multiplies at all. */
  readonly hotShare?: number;
  readonly busiest?: string;
  readonly flops: number;
  readonly bytes: number;
  readonly ms: number;
}

export interface PaperReport {
  readonly gpu: CardName;
  /** The card that the estimates are about. */
  readonly card: string;
  /** Launches of the whole step. */
  readonly launches: number;
  readonly kernels: readonly PaperKernel[];
  /** Kernels that do not compile, and why; those of which the compiler said nothing. */
  readonly failed: readonly string[];
  readonly on: StepKernels['on'];
}

const marks = new RegExp(mark(0).replace('0', '(\\d+|end)'));
/** More than a mark has characters. */
const longestMark = 64;

/** Splits a program's stderr into what was said of each kernel and the rest. Only the kernel at hand is kept as text. */
class Sections<T> {
  readonly read: (T | undefined)[] = [];
  rest = '';
  /** Text of the section so far, and its last characters, in which a mark may begin: NVK says up to a hundred megabytes of a kernel. */
  #pieces: string[] = [];
  #end = '';
  #place: number | undefined;
  readonly #reader: (text: string) => T | undefined;

  constructor(reader: (text: string) => T | undefined) {
    this.#reader = reader;
  }

  add(chunk: string): void {
    let text = this.#end + chunk;
    for (let next = marks.exec(text); next; next = marks.exec(text)) {
      this.#close(text.slice(0, next.index));
      text = text.slice(next.index + next[0].length);
      this.#place = next[1] === 'end' ? undefined : Number(next[1]);
    }
    const at = Math.max(0, text.length - longestMark);
    this.#pieces.push(text.slice(0, at));
    this.#end = text.slice(at);
  }

  end(): void {
    this.#close(this.#end);
  }

  #close(last: string): void {
    const said = [...this.#pieces, last].join('');
    this.#pieces = [];
    if (this.#place === undefined) this.rest += said;
    else this.read[this.#place] = this.#reader(said);
  }
}

const reader = (card: Card) => (text: string) => (card.driver === 'radv' ? readAmd(text, card) : readNak(text));

/**
 * Runs the program; resolves with what it printed, and what the compiler said of each of its kernels. That goes through a file: NVK writes a
 * hundred megabytes two bytes at a time, and a pipe wakes its reader for each of them.
 */
async function compileStep(card: Card, order: Order): Promise<{ step: StepKernels; said: (Compiled | undefined)[] }> {
  const program = fileURLToPath(new URL('compile-step.js', import.meta.url));
  const folder = await mkdtemp(join(tmpdir(), 'wgrad-paper-'));
  const path = join(folder, 'said.txt');
  const file = await open(path, 'w');
  try {
    const child = spawn(process.execPath, [program, JSON.stringify(order)], {
      env: environmentFor(card),
      stdio: ['ignore', 'pipe', file.fd],
    });
    let printed = '';
    child.stdout!.setEncoding('utf8').on('data', (chunk: string) => (printed += chunk));
    const [code, signal] = (await once(child, 'close')) as [number | null, string | null];
    const sections = new Sections(reader(card));
    for await (const chunk of createReadStream(path, 'latin1')) sections.add(chunk as string);
    sections.end();
    if (code === 0) return { step: JSON.parse(printed) as StepKernels, said: sections.read };
    throw new Error(`bench paper: the compiler ended with ${signal ?? code}.\n${sections.rest.trim().slice(-2000)}`);
  } finally {
    await file.close();
    await rm(folder, { recursive: true });
  }
}

function rowOf(card: Card, use: StepKernel, compiled: Compiled): PaperKernel {
  const hot = hotShare(card, compiled);
  const { registers, spills, scalarSpills, scratchBytes, workgroupBytes, instructions } = compiled;
  return {
    ...{ kernel: use.label, launches: use.launches, threads: use.threads },
    ...{ registers, spills, scalarSpills, scratchBytes, workgroupBytes, instructions },
    occupancy: occupancy(card, compiled, use.threads),
    ...(hot && { hotShare: hot.share, busiest: hot.by }),
    ...{ flops: use.flops, bytes: use.bytes },
    ms: leastMs(card, compiled, use),
  };
}

/** The kernels of one name as one: launches, spills, work and time added up, the most registers and memory, the least occupancy. */
export function byName(kernels: readonly PaperKernel[]): PaperKernel[] {
  const groups = new Map<string, PaperKernel[]>();
  for (const each of kernels) groups.set(each.kernel, [...(groups.get(each.kernel) ?? []), each]);
  const rows = [...groups].map(([kernel, own]): PaperKernel => {
    const sum = (of: (k: PaperKernel) => number): number => own.reduce((all, k) => all + of(k), 0);
    const most = (of: (k: PaperKernel) => number): number => Math.max(...own.map(of));
    const ms = sum((k) => k.ms);
    const [longest] = [...own].sort((a, b) => b.ms - a.ms);
    const hot = sum((k) => (k.hotShare ?? 0) * k.ms) / ms;
    return {
      kernel,
      launches: sum((k) => k.launches),
      threads: most((k) => k.threads),
      registers: most((k) => k.registers),
      spills: sum((k) => k.spills),
      scalarSpills: sum((k) => k.scalarSpills),
      scratchBytes: most((k) => k.scratchBytes),
      workgroupBytes: most((k) => k.workgroupBytes),
      instructions: most((k) => k.instructions),
      occupancy: Math.min(...own.map((k) => k.occupancy)),
      ...(longest!.busiest !== undefined && { hotShare: hot, busiest: longest!.busiest }),
      flops: sum((k) => k.flops),
      bytes: sum((k) => k.bytes),
      ms,
    };
  });
  return rows.sort((a, b) => b.ms - a.ms);
}

/** Compiles every kernel of a step for a card. Throws a UsageError that says what to install where its driver is not here. */
export async function compileFor(gpu: CardName, order: Order): Promise<PaperReport> {
  const card: Card = cards[gpu];
  const { step, said } = await compileStep(card, order);
  const kernels: PaperKernel[] = [];
  const failed: string[] = [];
  step.kernels.forEach((use, i) => {
    const compiled = said[i];
    if (use.failed !== undefined) failed.push(`${use.label}: ${use.failed}`);
    else if (compiled) kernels.push(rowOf(card, use, compiled));
    else failed.push(`${use.label}: the compiler said nothing of it`);
  });
  kernels.sort((a, b) => b.ms - a.ms);
  return { gpu, card: card.name, launches: step.launches, kernels, failed, on: { ...step.on, adapter: gpu } };
}
