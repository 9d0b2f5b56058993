/** How the schedule's workflow takes signals. */
import { log, setDefaultSignalHandler, uuid4 } from '@temporalio/workflow';
import type {
  DeleteScheduleRequest,
  PauseScheduleRequest,
  ScheduleRequest,
  ScheduleState,
  SIGNALS,
  SnapshotAvailable,
  UpdateScheduleRequest,
} from '../contract/schedule.ts';
import * as requests from '../domain/schedule-requests.ts';
import type { Schedule } from './schedule.ts';

/** What a signal makes of the state. One sent by hand, from the Web UI, may lack its argument or parts of it. */
type Transition = (now: ScheduleState, host: string, input: Sent) => ScheduleState;
type Sent = Partial<
  Omit<PauseScheduleRequest & UpdateScheduleRequest & DeleteScheduleRequest & SnapshotAvailable, 'requestId'>
> &
  ScheduleRequest;

const TRANSITIONS: Record<keyof typeof SIGNALS, Transition> = {
  pause: (now, _host, { requestId, mode }) => requests.paused(now, requestId, mode),
  resume: (now, _host, { requestId }) => requests.resumed(now, requestId),
  runNow: (now, _host, { requestId }) => requests.runRequested(now, requestId),
  updateSettings: (now, _host, { requestId, settings }) =>
    requests.settingsChanged(now, requestId, settings ?? {}),
  delete: (now, _host, { requestId, purge = false, force = false }) =>
    requests.deleteRequested(now, requestId, { purge, force }),
  snapshotAvailable: (now, host, sent) => requests.snapshotHinted(now, host, sent, Date.now()),
};

const isKnown = (name: string): name is keyof typeof SIGNALS => Object.hasOwn(TRANSITIONS, name);

/**
 * Each signal only changes the state, at once: whoever waits looks at it again. One handler takes all, because
 * those that wait at the start of a run are given to handlers in the order in which these are set, and a resume
 * must not overtake the pause that came after it.
 */
export function handleSignals(schedule: Schedule): void {
  setDefaultSignalHandler((name, argument) => {
    if (!isKnown(name)) return log.warn('a signal of this name is not known', { name });
    const sent = { ...(argument as Sent | undefined) };
    const requestId = typeof sent.requestId === 'string' ? sent.requestId : uuid4();
    schedule.change(now => TRANSITIONS[name](now, schedule.spec.host, { ...sent, requestId }));
  });
}
