// The loop of a compiled kernel that multiplies most, found in its basic blocks: a branch to an earlier block, or to its own, closes
// a loop over all blocks between.
import type { Work } from './cards.js';

/** A basic block: its name, the names it may branch to, and what its instructions ask of a unit. */
export interface Block {
  readonly name: string;
  readonly branches: readonly string[];
  readonly work: Work;
}

const total = (blocks: readonly Block[]): Work => {
  const sum = (of: (work: Work) => number): number => blocks.reduce((all, { work }) => all + of(work), 0);
  return {
    instructions: sum(({ instructions }) => instructions),
    multiplyAdds: sum(({ multiplyAdds }) => multiplyAdds),
    matrix: blocks.some(({ work }) => work.matrix),
    arithmetic: sum(({ arithmetic }) => arithmetic),
    workgroupBytes: sum(({ workgroupBytes }) => workgroupBytes),
    memoryBytes: sum(({ memoryBytes }) => memoryBytes),
  };
};

/** A loop counts where it holds at least this part of the kernel's multiply-adds; a loop around such a loop does not. */
const leastPart = 0.25;

/** One turn of the innermost loop with most multiply-adds; the whole kernel where no loop holds a quarter of them. */
export function hottest(blocks: readonly Block[]): Work | undefined {
  if (!blocks.length) return undefined;
  const all = total(blocks);
  const places = new Map(blocks.map(({ name }, i) => [name, i]));
  const ends = new Map<number, number>(); // of the loop that begins at a block
  blocks.forEach(({ branches }, i) => {
    for (const branch of branches) {
      const to = places.get(branch);
      if (to !== undefined && to <= i) ends.set(to, i);
    }
  });
  const loops = [...ends]
    .map(([from, to]) => ({ from, to, work: total(blocks.slice(from, to + 1)) }))
    .filter(({ work }) => work.multiplyAdds > 0 && work.multiplyAdds >= leastPart * all.multiplyAdds);
  const innermost = loops.filter(
    (loop) => !loops.some((other) => other !== loop && other.from >= loop.from && other.to <= loop.to),
  );
  return innermost.sort((a, b) => b.work.multiplyAdds - a.work.multiplyAdds)[0]?.work ?? all;
}
