// What a hand does on the coronal and the sagittal plane: a press or a drag moves the voxel that all planes go through, the wheel turns
// them, and the pointer asks for a value.
import { element } from './elements.js';
import { type Shown, sidePlanes } from './show.js';
import { voxelAt } from './viewer.js';

/** Listens on the planes beside the axial one. `moved` after every change. */
export function listenToPlanes(page: Shown, moved: () => void): void {
  const { view, brush } = page;
  for (const name of sidePlanes) {
    const canvas = element<HTMLCanvasElement>(name);
    const look = ({ offsetX: x, offsetY: y, buttons }: PointerEvent): void => {
      page.pointer = { name, x, y };
      if (page.study && buttons & 1 && !brush.isDown)
        Object.assign(view, voxelAt(page.study, view, canvas, x, y, name));
      moved();
    };
    canvas.addEventListener('pointerdown', (event) => {
      canvas.setPointerCapture(event.pointerId);
      look(event);
    });
    canvas.addEventListener('pointermove', look);
    canvas.addEventListener('pointerleave', () => {
      page.pointer = undefined;
      moved();
    });
    canvas.addEventListener(
      'wheel',
      (event) => {
        event.preventDefault();
        if (!page.study) return;
        const [axis, count] =
          name === 'coronal' ? (['y', page.study.height] as const) : (['x', page.study.width] as const);
        view[axis] = Math.max(0, Math.min(count - 1, view[axis] + Math.sign(event.deltaY)));
        moved();
      },
      { passive: false },
    );
  }
}
