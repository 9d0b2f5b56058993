/** Where each fault point is reached: by which scenarios of the matrix, or by which test instead. */
import { FAULT_POINTS, type FaultPoint } from '../../../src/lib/fault-points.ts';

export const TASKS = ['full', 'incremental', 'compare'] as const;
export const SCENARIOS = ['start', ...TASKS, 'life', 'commands'] as const;
export type Scenario = (typeof SCENARIOS)[number];

/** A test of its own, by path, which names the point; or the work that brings the point into the matrix. */
type Elsewhere = { readonly coveredBy: string } | { readonly comesWith: string };

const RARE = { coveredBy: 'test/faults/rare-points.test.ts' } as const;
const START = ['start'] as const;
const FULL = ['full'] as const;
const COMPARE = ['compare'] as const;
const LIFE = ['life'] as const;
const COMMANDS = ['commands'] as const;

const EXCEPTIONS: Partial<Record<FaultPoint, readonly Scenario[] | Elsewhere>> = {
  'catalog.commit.migrate': START,
  'catalog.commit.registerNode': START,
  'source.lease.takeInstance': START,
  'temporal.registerSearchAttributes': START,
  'replica.root.mkdir': START,
  'replica.commit.noteRoot': START,
  'replica.marker.create': START,
  'replica.marker.write': START,
  'replica.marker.fsync': START,
  'replica.marker.link': START,
  'replica.marker.unlink': START,
  'replica.marker.syncDirectory': START,
  'identity.mkdir': START,
  'identity.create': START,
  'identity.write': START,
  'identity.fsync': START,
  'identity.link': START,
  'identity.unlink': START,
  'identity.syncDirectory': START,

  'replica.commit.registerSchedule': FULL,
  'source.commit.pinReceiver': FULL,
  'replica.directory.mkdir': FULL,
  'replica.directory.sync': FULL,
  'replica.commit.storeNextRun': ['full', 'incremental'],

  'replica.commit.settleComparison': COMPARE,
  'transfer.send.compare': COMPARE,
  'transfer.send.hashes': COMPARE,
  'transfer.send.compared': COMPARE,

  'source.commit.noteTold': LIFE,
  'temporal.signal.snapshotAvailable': LIFE,
  'source.commit.setTaskRate': LIFE,
  'source.commit.releaseGivenUp': LIFE,
  'source.commit.entombSchedule': LIFE,
  'source.commit.releaseAll': LIFE,
  'source.commit.endGoneSender': LIFE,
  'replica.commit.recordPaused': LIFE,
  'replica.commit.recordSettings': LIFE,
  'replica.commit.raisePlan': LIFE,
  'replica.commit.closeSessions': LIFE,
  'replica.commit.endTask': LIFE,
  'replica.commit.beginDelete': LIFE,
  'replica.commit.filesToDrop': LIFE,
  'replica.commit.finishDelete': LIFE,
  'replica.commit.beginGivingUp': LIFE,
  'replica.commit.finishGivingUp': LIFE,
  'replica.remove.unlink': LIFE,
  'replica.remove.syncDirectory': LIFE,
  'transfer.send.ack': LIFE,
  'transfer.send.close': LIFE,
  'transfer.send.refused': LIFE,
  'transfer.send.keepAlive': LIFE,

  'source.commit.registerHostSnapshot': COMMANDS,
  'source.commit.forgetSnapshot': COMMANDS,
  'temporal.start.schedule': COMMANDS,
  'temporal.signal.request': COMMANDS,
  'restore.mkdir': COMMANDS,
  'restore.create': COMMANDS,
  'restore.metadata': COMMANDS,
  'restore.writeData': COMMANDS,
  'restore.writeRaw': COMMANDS,
  'restore.truncateOverlay': COMMANDS,
  'restore.truncateImage': COMMANDS,
  'restore.truncateRaw': COMMANDS,
  'restore.fsync': COMMANDS,
  'restore.link': COMMANDS,
  'restore.unlink': COMMANDS,
  'restore.syncDirectory': COMMANDS,

  'restore.rename': RARE,
  'source.commit.dropSubscription': RARE,
  'source.commit.unpinReceiver': RARE,
  'source.commit.vouchForReceiver': RARE,
  'source.commit.guardRelease': RARE,
  'catalog.commit.grantRuntimeRole': RARE,
  'replica.commit.noteDoubts': RARE,
  'replica.commit.noteDamage': RARE,
  'replica.commit.recordVerified': RARE,
  'replica.commit.noteRemoved': RARE,
  'replica.commit.endLostTask': RARE,
  'replica.commit.noteReleased': RARE,
  'temporal.start.release': RARE,
  'replica.marker.rename': RARE,
  'replica.sweep.unlink': RARE,
  'replica.sweep.syncDirectory': RARE,
  'replica.commit.rejectLayout': RARE,
  'replica.progress.reset': RARE,
  'replica.progress.syncReset': RARE,
  'replica.discard.unlinkDigests': RARE,
  'replica.discard.syncDirectory': RARE,
  'replica.standAlone.unlinkOther': RARE,
  'replica.standAlone.syncDirectory': RARE,
};

/** Continuous data protection joins the matrix with the tasks that use it. */
const CDP = { comesWith: 'continuous data protection' } as const;
const CDP_POINT = /^(journal|nbd|qmp)\./;

export const POINTS = Object.keys(FAULT_POINTS) as FaultPoint[];

const reachOf = (point: FaultPoint): readonly Scenario[] | Elsewhere =>
  EXCEPTIONS[point] ?? (CDP_POINT.test(point) ? CDP : TASKS);

/** @returns the scenarios that reach the point, in their order; none when it is covered elsewhere */
export function scenariosOf(point: FaultPoint): readonly Scenario[] {
  const found = reachOf(point);
  return 'length' in found ? found : [];
}

/** @returns the path of the test that covers a point which no scenario reaches, null for one that comes later */
export function coveringTest(point: FaultPoint): string | null {
  const found = reachOf(point);
  return 'coveredBy' in found ? found.coveredBy : null;
}
