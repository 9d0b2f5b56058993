/** The outside world of one run of the command line, so that tests can bring their own. */
export interface CliIo {
  /** Writes to standard output; `text` brings its own line ends. */
  out(text: string): void;
  /** Writes to standard error. */
  err(text: string): void;
  /** Whether standard output is a terminal that may be redrawn. */
  readonly isTerminal: boolean;
  /** The terminal's width in columns; 80 where it is not known. */
  columns(): number;
  /** The terminal's height in lines; 24 where it is not known. */
  rows(): number;
  nowMs(): number;
  /** Aborted by Ctrl-C or SIGTERM. Asking for it takes these signals over: only long commands do. */
  stopSignal(): AbortSignal;
}

/** The process's own streams and signals. A second Ctrl-C ends it at once. */
export function processIo(): CliIo {
  let stopping: AbortController | null = null;
  return {
    out: text => void process.stdout.write(text),
    err: text => void process.stderr.write(text),
    isTerminal: process.stdout.isTTY === true,
    columns: () => process.stdout.columns || 80,
    rows: () => process.stdout.rows || 24,
    nowMs: () => Date.now(),
    stopSignal() {
      if (stopping !== null) return stopping.signal;
      const controller = new AbortController();
      stopping = controller;
      const stop = (): void => {
        if (controller.signal.aborted) process.exit(130);
        controller.abort();
      };
      process.on('SIGINT', stop);
      process.on('SIGTERM', stop);
      return controller.signal;
    },
  };
}
