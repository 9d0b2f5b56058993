/** When the guard ends the recorder, and what it must do afterwards: pure, over a clock that is handed in. */
import { type GuardMessage, LONGEST_SILENCE_MS } from './guard-messages.ts';

export interface GuardState {
  readonly intent: { readonly untilMs: number; readonly resume: boolean; readonly thaw: boolean } | null;
  readonly heardAtMs: number;
  readonly unansweredMs: number;
  readonly lookedAtMs: number;
}

/** A guard that was held up itself for so long knows nothing about the recorder's silence. */
const HELD_UP_MS = 1_000;

export const firstGuardState = (nowMs: number): GuardState => ({
  intent: null,
  heardAtMs: nowMs,
  unansweredMs: 0,
  lookedAtMs: nowMs,
});

export function heard(state: GuardState, message: GuardMessage, nowMs: number): GuardState {
  const next = { ...state, heardAtMs: nowMs };
  switch (message.type) {
    case 'alive':
      return { ...next, unansweredMs: message.unansweredMs };
    case 'intent': {
      const { deadlineMs, resume, thaw } = message;
      return { ...next, intent: { untilMs: nowMs + deadlineMs, resume, thaw } };
    }
    case 'over':
      return { ...next, intent: null };
    default:
      return next;
  }
}

/** @returns why the recorder must end, in words, or null; and the state after this look */
export function look(
  state: GuardState,
  nowMs: number,
): { readonly state: GuardState; readonly verdict: string | null } {
  const heldUpMs = nowMs - state.lookedAtMs;
  const looked = { ...state, lookedAtMs: nowMs };
  if (heldUpMs > HELD_UP_MS) {
    const intent = state.intent && { ...state.intent, untilMs: state.intent.untilMs + heldUpMs };
    return { state: { ...looked, heardAtMs: state.heardAtMs + heldUpMs, intent }, verdict: null };
  }
  if (state.intent !== null && nowMs > state.intent.untilMs) {
    return { state: looked, verdict: 'the guest stood still beyond the deadline' };
  }
  const silentMs = nowMs - state.heardAtMs;
  if (silentMs > LONGEST_SILENCE_MS) {
    return { state: looked, verdict: `the recorder was silent for ${Math.round(silentMs)} ms` };
  }
  if (state.unansweredMs + silentMs > LONGEST_SILENCE_MS && state.unansweredMs > 0) {
    return {
      state: looked,
      verdict: `a write is unanswered for ${Math.round(state.unansweredMs + silentMs)} ms`,
    };
  }
  return { state: looked, verdict: null };
}
