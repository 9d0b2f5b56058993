/** What the recorder tells its guard: JSON, one a line, on the guard's standard input, whose end is the recorder's. */

export type GuardMessage =
  | {
      readonly type: 'watch';
      readonly recorderPid: number;
      readonly qmpSocketPath: string;
      readonly agentSocketPath: string | null;
    }
  /** Told several times a second. */
  | { readonly type: 'alive'; readonly unansweredMs: number }
  /** The guest is about to stand still, or to be frozen, until {@link GuardMessage} `over`. */
  | { readonly type: 'intent'; readonly deadlineMs: number; readonly resume: boolean; readonly thaw: boolean }
  | { readonly type: 'over' };

/** A recorder that is silent for so long, or that leaves a write unanswered for so long, is ended. */
export const LONGEST_SILENCE_MS = 5_000;
