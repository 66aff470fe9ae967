// What the page says: a line of status that the next one replaces, and notices that stay until they are closed.
import { button, element } from './elements.js';

/** Replaces the line of status; screen readers read it out. */
export const say = (text: string): void => {
  element('status').textContent = text;
};

/** A message that stays, with at most one thing to do about it. */
export function notice(text: string, action?: { name: string; run: () => void }): void {
  element('notice').hidden = false;
  element('notice-text').textContent = text;
  const act = button('notice-action');
  act.hidden = !action;
  act.textContent = action?.name ?? '';
  act.onclick = () => {
    closeNotice();
    action?.run();
  };
  if (action) act.focus();
}

/** Closes it; the keyboard, where it was there, goes on at the picture. */
export function closeNotice(): void {
  const place = element('notice');
  if (place.contains(document.activeElement)) element('picture').focus();
  place.hidden = true;
}

/** Runs work; why it failed becomes a notice. */
export async function attempt(work: () => Promise<void> | void): Promise<void> {
  try {
    await work();
  } catch (error) {
    const { name, message } = error as Error;
    notice(message.replace(/^(nifti|config|device): /, ''));
    if (name === 'TypeError' || message.startsWith('internal:')) console.error(error); // a mistake of the page's own
  }
}
