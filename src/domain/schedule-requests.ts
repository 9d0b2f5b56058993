/** What an operator's requests, and the source's hints, do to the state of a schedule. */
import type {
  DeleteRequest,
  PauseMode,
  ScheduleSettings,
  ScheduleState,
  SnapshotAvailable,
  SourceNews,
} from '../contract/schedule.ts';
import { sameSettings, settingsFaults } from './settings.ts';

/** So many snapshots at A are remembered while they are news. */
const MAX_NEWS = 20;

/** So many requests are remembered; the oldest is forgotten first. */
export const MAX_REQUESTS = 50;

const BEING_DELETED = 'the schedule is being deleted';

/** A request to pause. A second one with the same id changes nothing; one with a stronger mode takes over. */
export function paused(state: ScheduleState, requestId: string, mode: PauseMode = 'now'): ScheduleState {
  if (state.deleting !== null) return refuse(state, requestId, BEING_DELETED);
  const wanted = {
    paused: true,
    runRequested: false,
    draining: mode === 'drain' && (state.draining || !state.paused),
    releasing: mode === 'release' || state.releasing,
  };
  const isNews = !state.paused || wanted.draining !== state.draining || wanted.releasing !== state.releasing;
  return accept(state, requestId, isNews ? null : 'it was paused already', wanted);
}

/** A request to go on. What a stopped task began is kept, unless it was given up already. */
export function resumed(state: ScheduleState, requestId: string): ScheduleState {
  if (state.deleting !== null) return refuse(state, requestId, BEING_DELETED);
  if (!state.paused) return accept(state, requestId, 'it was not paused');
  return accept(state, requestId, null, { paused: false, draining: false, releasing: false });
}

/** A request to run now. While a task runs, another follows it. */
export function runRequested(state: ScheduleState, requestId: string): ScheduleState {
  if (state.deleting !== null) return refuse(state, requestId, BEING_DELETED);
  if (state.paused) return refuse(state, requestId, 'the schedule is paused: resume it first');
  if (state.runRequested) return accept(state, requestId, 'a run was asked for already');
  return accept(state, requestId, null, { runRequested: true });
}

/** A request for other settings; refused, with all reasons, where the rules do not allow them. */
export function settingsChanged(
  state: ScheduleState,
  requestId: string,
  change: Partial<ScheduleSettings>,
): ScheduleState {
  if (state.deleting !== null) return refuse(state, requestId, BEING_DELETED);
  const before = state.newSettings ?? state.settings;
  const after = mergedSettings(before, change);
  const faults = faultsOf(after);
  if (faults.length > 0) return refuse(state, requestId, faults.join('; '));
  if (sameSettings(before, after)) return accept(state, requestId, 'it had these settings already');
  return accept(state, requestId, null, { newSettings: after });
}

/** A request to delete; a later one can still add to it, until the last step has begun. */
export function deleteRequested(
  state: ScheduleState,
  requestId: string,
  request: DeleteRequest,
): ScheduleState {
  const { deleting } = state;
  const wanted = {
    purge: request.purge || (deleting?.purge ?? false),
    force: (request.force ?? false) || (deleting?.force ?? false),
  };
  if (state.deleteSettled && wanted.purge !== deleting?.purge) {
    return refuse(state, requestId, 'the schedule is all but deleted: its replicas stay');
  }
  const reason = deleting === null ? null : 'it was being deleted already';
  return accept(state, requestId, reason, {
    deleting: wanted,
    runRequested: false,
    releasing: false,
    newSettings: null,
  });
}

/**
 * The source's word that it has something newer. Many of them are one; only a continuous schedule runs for it,
 * but every schedule is behind from now on.
 */
export function snapshotHinted(
  state: ScheduleState,
  host: string,
  hint: Partial<Pick<SnapshotAvailable, 'host' | 'sequence'>>,
  nowMs: number,
): ScheduleState {
  if (state.deleting !== null || hint.host !== host) return state;
  if (hint.sequence !== undefined && hint.sequence <= state.answeredSequence) return state;
  return {
    ...state,
    snapshotHinted: state.settings.type === 'continuous',
    behindSinceMs: state.behindSinceMs ?? nowMs,
    news: withNews(state.news, hint.sequence, nowMs),
  };
}

/** Since when each is known decides how far the schedule is behind when a task has brought some of them. */
function withNews(
  news: readonly SourceNews[],
  sequence: number | undefined,
  atMs: number,
): readonly SourceNews[] {
  if (!Number.isSafeInteger(sequence) || sequence === undefined) return news;
  if (sequence <= (news.at(-1)?.sequence ?? 0)) return news;
  // Where there are too many the newest stands for those after it.
  return [...news.slice(0, MAX_NEWS - 1), { sequence, atMs }];
}

/** A signal sent by hand may hold anything. */
function faultsOf(settings: ScheduleSettings): readonly string[] {
  try {
    return settingsFaults(settings);
  } catch (error) {
    return [`the settings cannot be read: ${error instanceof Error ? error.message : String(error)}`];
  }
}

/** One rhythm takes the place of another; what is not named stays, but a time zone that nothing needs any more. */
export function mergedSettings(
  before: ScheduleSettings,
  change: Partial<ScheduleSettings>,
): ScheduleSettings {
  const after = { ...before, ...rhythmOf(change), ...change };
  const needsZone = after.cron !== null || (after.notBetween ?? []).length > 0 || change.timeZone != null;
  return needsZone ? after : { ...after, timeZone: null };
}

function rhythmOf({ type, everyMs, cron }: Partial<ScheduleSettings>): Partial<ScheduleSettings> {
  if (type === 'continuous') return { everyMs: null, cron: null };
  if (everyMs != null) return { type: 'interval', cron: null };
  return cron == null ? {} : { type: 'interval', everyMs: null };
}

const accept = (
  state: ScheduleState,
  requestId: string,
  reason: string | null,
  change: Partial<ScheduleState> = {},
): ScheduleState => answer(state, requestId, true, reason, change);

const refuse = (state: ScheduleState, requestId: string, reason: string): ScheduleState =>
  answer(state, requestId, false, reason, {});

/** Applies a request once: a signal may be delivered, or sent by its caller, more than once. */
function answer(
  state: ScheduleState,
  requestId: string,
  accepted: boolean,
  reason: string | null,
  change: Partial<ScheduleState>,
): ScheduleState {
  if (state.requests.some(request => request.requestId === requestId)) return state;
  const requests = [...state.requests, { requestId, accepted, reason }].slice(-MAX_REQUESTS);
  return { ...state, ...change, requests };
}
