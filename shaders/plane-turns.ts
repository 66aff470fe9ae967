// Turns of a plane, 0 to 7: so many quarter turns counter-clockwise (turn modulo 4), then from 4 on a flip from left to right. A plane that
// is no square turns by half turns only.
import type { Triple } from './image-sizes.js';
import { u32, wgsl } from './wgsl.js';

/** The bits of a turn that planes of this size follow: 1 and 3 are 0 and 2 where they are no squares. */
export const turnBits = ([, height, width]: Triple): number => (height === width ? 7 : 6);

/** Functions `turned(turn, at)`, the place that is seen at a place, and `turned_back(turn, at)`, its inverse; `at` is (row, column). */
export const planeTurns = ([, height, width]: Triple): string => wgsl`
// What quarter turns counter-clockwise show at a place was here.
fn before_turns(quarters: u32, at: vec2u) -> vec2u {
  var here = at;
#if ${height === width}
  if ((quarters & 1u) != 0u) { here = vec2u(here.y, ${u32(width - 1)} - here.x); }
#endif
  if ((quarters & 2u) != 0u) { here = vec2u(${u32(height - 1)} - here.x, ${u32(width - 1)} - here.y); }
  return here;
}
fn mirrored(turn: u32, at: vec2u) -> vec2u { return vec2u(at.x, select(at.y, ${u32(width - 1)} - at.y, turn >= 4u)); }
fn turned(turn: u32, at: vec2u) -> vec2u { return before_turns(turn & 3u, mirrored(turn, at)); }
fn turned_back(turn: u32, at: vec2u) -> vec2u { return mirrored(turn, before_turns((4u - (turn & 3u)) & 3u, at)); }`;
