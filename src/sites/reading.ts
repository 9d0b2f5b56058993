/** Something that is read when it is wanted, and not too often. */

/**
 * What was read is given for `freshMs`, a failure too. One reading runs at a time; a caller waits for it no longer
 * than `withinMs`.
 * @returns what gives the reading, or null when it failed or takes too long
 */
export function freshFor<T>(
  freshMs: number,
  withinMs: number,
  read: () => Promise<T>,
): () => Promise<T | null> {
  let running: Promise<T | null> | null = null;
  let known: { readonly value: T | null; readonly atMs: number } | null = null;

  function start(): Promise<T | null> {
    running ??= read()
      .catch(() => null)
      .then(value => {
        known = { value, atMs: performance.now() };
        running = null;
        return value;
      });
    return running;
  }

  return async () => {
    if (known !== null && performance.now() - known.atMs < freshMs) return known.value;
    const { promise: tooLate, resolve } = Promise.withResolvers<null>();
    const timer = setTimeout(resolve, withinMs, null);
    try {
      return await Promise.race([start(), tooLate]);
    } finally {
      clearTimeout(timer);
    }
  };
}
