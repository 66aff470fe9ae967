// Ctrl-C of a command that runs trainings as processes: the first asks them to save, the second ends them at once.

/** Two signals: `stop` is aborted by the first SIGINT or SIGTERM, `atOnce` by the second. */
export function interruptible(): { stop: AbortSignal; atOnce: AbortSignal; done: () => void } {
  const [first, second] = [new AbortController(), new AbortController()];
  const onSignal = () => {
    if (first.signal.aborted) return second.abort();
    process.stderr.write('\ninterrupted: the running trainings are saving (interrupt again to stop at once)\n');
    first.abort();
  };
  process.on('SIGINT', onSignal);
  process.on('SIGTERM', onSignal);
  return {
    stop: first.signal,
    atOnce: second.signal,
    done: () => {
      process.off('SIGINT', onSignal);
      process.off('SIGTERM', onSignal);
    },
  };
}
