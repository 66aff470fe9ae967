// Ctrl-C: the first asks a run to save and stop, the second ends the process at once. SIGTERM counts as the first.

/** A signal that aborts on SIGINT or SIGTERM; call `done` to give the signals back. */
export function interruptible(): { stop: AbortSignal; done: () => void } {
  const controller = new AbortController();
  const onSignal = () => {
    if (controller.signal.aborted) process.exit(130);
    process.stderr.write('\ninterrupted: saving after this iteration (again: stop at once)\n');
    controller.abort();
  };
  process.on('SIGINT', onSignal);
  process.on('SIGTERM', onSignal);
  return {
    stop: controller.signal,
    done: () => {
      process.off('SIGINT', onSignal);
      process.off('SIGTERM', onSignal);
    },
  };
}
