/**
 * The named fault points: one around every side effect, so that tests can crash, fail or delay the program just
 * before and just after it. docs/fault-points.md tells how; test/unit/fault-points checks that none is missing.
 */

/** Each frame of the data connection is an effect of its own. */
const FRAMES = {
  'transfer.send.hello': 'A says which disk task it sends',
  'transfer.send.welcome': 'B admits the sender',
  'transfer.send.refused': 'B turns the sender away, as its last word',
  'transfer.send.mapOffer': "A offers its extent map's digest",
  'transfer.send.mapWanted': 'B asks for the extent map',
  'transfer.send.map': 'A sends a piece of its extent map',
  'transfer.send.start': 'B says from where it wants the stream',
  'transfer.send.data': 'A sends a piece of the data stream',
  'transfer.send.ack': 'B acknowledges what is durable',
  'transfer.send.final': "A says its content's digest",
  'transfer.send.received': 'B says that it has all, as its last word',
  'transfer.send.keepAlive': 'either end shows that it lives',
  'transfer.send.close': 'A leaves, as its last word',
  'transfer.send.compare': 'A asks for the hashes of what B has of the disk',
  'transfer.send.hashes': 'B sends hashes of what it has',
  'transfer.send.compared': 'B says what the hashes were of',
  'transfer.send.journal': 'A says whose journal it brings',
  'transfer.send.records': 'A sends records of a journal',
} as const;

const CATALOG = {
  'catalog.commit.migrate': 'the schema of a catalog is brought up to date',
  'catalog.commit.grantRuntimeRole': "the rights of the worker's role",
  'catalog.commit.registerNode': "a node's certificate is noted in its site's catalog",
} as const;

const SOURCE = {
  'source.lease.takeInstance': "A's worker takes the advisory lock that proves that it lives",
  'source.commit.registerEpoch': 'an epoch is registered: its frozen base and its CDP host snapshot',
  'source.commit.registerEndedEpoch': 'an epoch that has ended is registered with all it has',
  'source.import.mkdir': 'the folder of imported journals',
  'source.import.removeFailed': 'the journals of an import that failed are removed',
  'source.import.removeLeft': 'the journals of an import that died are removed',
  'source.import.syncDirectory': 'the name of the folder of imported journals becomes durable',
  'source.commit.noteCheckpoint': 'the newest checkpoint of all disks is noted',
  'source.commit.endEpoch': 'an epoch has ended',
  'source.commit.registerHostSnapshot': 'a host snapshot is registered',
  'source.commit.forgetSnapshot': 'a host snapshot is taken out of the catalog',
  'source.commit.querySyncInfo': 'decision, lock, subscription and answer of one plan',
  'source.commit.releaseOtherLocks': 'locks of smaller generations are released',
  'source.commit.releaseGivenUp': 'what an unfinished task held is released',
  'source.commit.releaseAll': 'all that a deleted schedule held is released',
  'source.commit.entombSchedule': 'the tombstone of a deleted schedule',
  'source.commit.setTaskRate': "a running task's rate limit",
  'source.commit.requestStop': "all senders of a schedule's earlier tasks are asked to stop",
  'source.commit.requestStopOf': 'the sender of one disk is asked to stop',
  'source.commit.noteGoneSenders': 'senders whose process is gone count as ended',
  'source.commit.beginSender': 'a sender begins, fenced',
  'source.commit.endSender': 'a sender has ended',
  'source.commit.guardRelease': 'what a silent schedule locked is released because space is low',
  'source.commit.endGoneSender': 'a sender that this process does not know has ended',
  'source.commit.noteTold': 'a waiting schedule was told of a snapshot',
  'source.commit.dropSubscription': 'a waiting schedule is gone',
  'source.commit.pinReceiver': "a receiver's certificate is pinned at first use",
  'source.commit.vouchForReceiver': "a receiver's certificate is pinned by command",
  'source.commit.unpinReceiver': "a receiver's certificate is forgotten by command",
} as const;

const REPLICA = {
  'replica.commit.registerSchedule': "a schedule's row",
  'replica.commit.storeNextRun': 'when a schedule runs next',
  'replica.commit.recordPaused': 'that a schedule is paused, or not',
  'replica.commit.recordSettings': "a schedule's settings",
  'replica.commit.createEmptyTask': "a task's row and generation",
  'replica.commit.raisePlan': 'a task is planned anew',
  'replica.commit.recordSyncInfo': "A's answer: host snapshot, disks and disk tasks",
  'replica.commit.openSession': 'a receiver session, fenced by its epoch',
  'replica.commit.closeSessions': "a schedule's receiver sessions are closed",
  'replica.commit.registerSeeds': 'images that an operator brought are registered',
  'replica.commit.forgetSeed': 'an image that an operator brought is forgotten',
  'replica.commit.settleComparison': 'what a disk is compared with',
  'replica.commit.adoptLayout': "a layer's layout and file name",
  'replica.commit.rejectLayout': 'a layout whose files are of no use',
  'replica.commit.rejectReceived': 'a received layer that the storage may have lost is given up',
  'replica.commit.markReceived': 'both ends agreed on all bytes of a disk',
  'replica.commit.markSealed': 'a layer is sealed',
  'replica.commit.openJournal': 'a disk task finds the journal that it appends to, or makes its row',
  'replica.commit.appendDurable':
    'records of a journal are noted as durable, and what all disks have is published',
  'replica.commit.markAppended': 'the disk task of a journal is done',
  'replica.commit.finishTask': 'the recovery point and the cursor',
  'replica.commit.endTask': 'a task ended without a recovery point',
  'replica.commit.beginDelete': 'a schedule is being deleted',
  'replica.commit.filesToDrop': 'what was never published leaves the catalog',
  'replica.commit.finishDelete': 'a schedule is deleted',
  'replica.commit.beginGivingUp': 'an unfinished target is given up',
  'replica.commit.noteDoubts': "what speaks against a replica's file, or no longer does",
  'replica.commit.noteDamage': "a replica's file was found damaged while it was read",
  'replica.commit.recordVerified': "a replica's file was read whole and compared",
  'replica.commit.noteRoot': 'the id of a folder of replicas',
  'replica.commit.finishGivingUp': 'the files of an unfinished target are gone',
  'replica.commit.recordJournalVerified': 'what reading a journal whole gave',
  'replica.commit.giveUpJournal': 'the states of an epoch are given up',
  'replica.commit.noteJournalRemoved': 'the files of a journal that was given up are gone',
  'replica.commit.noteSourceClock': "how far the source's clock is off",
  'replica.commit.endLostTask': 'a task that Temporal lost is ended',
  'replica.commit.noteReleased': 'the source of a deleted schedule has let go',
  'replica.commit.noteRemoved': 'a node has removed a file that was left to it',
} as const;

const REPLICA_FILES = {
  'replica.root.mkdir': 'the folder of all replicas',
  'replica.marker.create': 'the marker of the folder of replicas appears under another name',
  'replica.marker.write': "the folder's id",
  'replica.marker.fsync': 'the marker becomes durable',
  'replica.marker.link': 'the marker gets its name, never over another',
  'replica.marker.rename': 'the marker gets its name where links are not possible',
  'replica.marker.unlink': 'the other name is removed',
  'replica.marker.syncDirectory': "the marker's name becomes durable",
  'replica.directory.mkdir': "the folder of a disk's layers or of its journal",
  'replica.directory.sync': "the name of a disk's folder",
  'replica.map.create': 'the map file appears',
  'replica.map.write': 'the extent map',
  'replica.map.truncate': 'what an older map file held beyond',
  'replica.map.fsync': 'the extent map becomes durable',
  'replica.map.unlink': 'a map file that did not become durable is removed',
  'replica.map.syncDirectory': "the map file's name becomes durable",
  'replica.partial.create': 'the partial file appears',
  'replica.partial.syncDirectory': 'the names of partial and progress file become durable',
  'replica.partial.metadata': "the image's header and tables",
  'replica.partial.write': 'a piece of the data stream',
  'replica.partial.truncate': 'the partial file gets its final size',
  'replica.partial.fdatasync': 'data becomes durable, before its progress and its acknowledgement',
  'replica.progress.create': 'the progress file appears',
  'replica.progress.write': 'how much of the stream is durable',
  'replica.progress.fdatasync': 'the progress becomes durable',
  'replica.progress.reset': 'progress is forgotten',
  'replica.progress.syncReset': 'forgotten progress becomes durable',
  'replica.digests.create': 'the digest file appears',
  'replica.digests.write': 'the digests of the layer',
  'replica.digests.truncate': 'what an older digest file held beyond',
  'replica.digests.fsync': 'the digests become durable',
  'replica.digests.unlink': 'a digest file that did not become durable is removed',
  'replica.digests.syncDirectory': "the digest file's name becomes durable",
  'replica.discard.unlinkDigests': 'the digest file of a stream that was not what A read is removed',
  'replica.discard.syncDirectory': 'its name is gone for good',
  'replica.seal.fsync': 'the whole image becomes durable',
  'replica.seal.syncDigests': 'the digest file is made durable once more',
  'replica.seal.unlinkDigests': 'a digest file that did not become durable once more is removed',
  'replica.seal.syncNames': 'the names beside the image become durable',
  'replica.seal.rename': 'the image gets its final name',
  'replica.seal.syncDirectory': 'the final name becomes durable',
  'replica.seal.chmod': 'the layer becomes read-only',
  'replica.seal.syncMode': 'that it is read-only becomes durable',
  'replica.seal.unlinkSidecars': 'map and progress are removed',
  'replica.seal.syncUnlinked': 'their names are gone for good',
  'replica.standAlone.unlinkOther': 'the copy of another map is removed',
  'replica.standAlone.syncDirectory': "the increment's names are gone for good",
  'replica.remove.unlink': 'a file of a layer that is no longer wanted is removed',
  'replica.journal.remove': 'the folder of a journal that nobody wants any more is removed',
  'replica.remove.syncDirectory': 'its name is gone for good',
  'replica.sweep.unlink': 'a stray file is removed',
  'replica.sweep.syncDirectory': 'its name is gone for good',
} as const;

const JOURNAL = {
  'journal.prepared.create': 'the next segment appears',
  'journal.prepared.truncate': 'what an earlier process left in it is cut off',
  'journal.prepared.zero': 'it is filled with zeros',
  'journal.prepared.fdatasync': 'the zeros become durable',
  'journal.prepared.unlink': 'a segment that was prepared and not begun is removed',
  'journal.prepared.unlinkFailed': 'a segment for which there was no room is removed',
  'journal.head.write': 'a segment begins',
  'journal.head.fdatasync': 'its head becomes durable',
  'journal.head.syncDirectory': 'its name becomes durable',
  'journal.records.write': 'records are appended',
  'journal.records.writeNow': 'records are appended by a recorder, before the guest is answered',
  'journal.records.fdatasync': 'records become durable',
  'journal.end.write': 'a segment ends',
  'journal.end.fdatasync': 'a whole segment becomes durable, before the next begins',
  'journal.left.fdatasync': 'what a dead recorder left in the page cache becomes durable',
  'journal.tail.unlink': 'a segment that an earlier process prepared is removed',
  'journal.tail.truncate': 'a torn tail is cut off',
  'journal.tail.extend': 'zeros take its place',
  'journal.tail.fdatasync': 'the end of the journal becomes durable',
  'journal.tail.syncDirectory': 'the names of its segments become durable',
  'journal.adopt.unlinkStray': 'what an earlier adoption left behind is removed',
  'journal.adopt.create': 'a copy of the newest segment appears under another name',
  'journal.adopt.write': 'it gets the records that the catalog knows',
  'journal.adopt.zero': 'zeros take the place of all others',
  'journal.adopt.fsync': 'the copy becomes durable',
  'journal.adopt.rename': 'it takes the place of the segment',
  'journal.adopt.unlink': 'a segment behind what the catalog knows is removed',
  'journal.adopt.unlinkCopy': 'a copy that was not put into place is removed',
  'journal.adopt.syncDirectory': 'the names of the segments become durable',
} as const;

const CAPTURE = {
  'nbd.socket.chmod': 'only this user may connect to the NBD server',
  'nbd.send.greeting': 'the NBD server greets',
  'nbd.send.farewell': 'it lets a client go',
  'nbd.send.export': 'it gives a disk by the old option',
  'nbd.send.answer': 'it answers an option',
  'nbd.send.reply': 'it says that a request is done',
  'qmp.send': 'QEMU is sent a command',
  'qmp.sendAll': 'QEMU is sent several commands in one message: stop, switch and go on',
  'recorder.guard.tell': 'the recorder tells its guard that it lives, or what it is about to do',
  'recorder.intent.create': 'what the recorder is about to make in QEMU is written down under another name',
  'recorder.intent.write': 'the intent',
  'recorder.intent.fsync': 'the intent becomes durable',
  'recorder.intent.rename': 'the intent gets its name',
  'recorder.intent.syncDirectory': "the intent's name becomes durable",
  'recorder.intent.unlink': 'an intent that is over is removed',
  'recorder.overlay.fsync': 'the new overlay becomes durable',
  'recorder.overlay.syncDirectory': "the new overlay's name becomes durable",
  'recorder.overlay.unlink': 'an overlay that the guest never wrote to is removed',
  'recorder.folder.mkdir': "the folder of a host's journals",
  'recorder.lock.answer': 'the recorder tells another one of its host that it is there',
  'recorder.socket.unlinkOwn': 'the recorder removes its socket',
  'recorder.socket.unlink': 'the socket of a dead recorder is removed',
  'recorder.journals.remove': 'the journals of an epoch that was never registered are removed',
  'recorder.control.unlink': 'the socket for commands that a dead recorder left is removed',
  'recorder.control.chmod': 'only this user may give commands',
  'recorder.control.answer': 'the recorder answers a command',
  'recorder.control.ask': 'a command asks the recorder',
} as const;

const RESTORE = {
  'restore.hold': 'a recovery takes the advisory locks that keep what it needs',
  'restore.mkdir': 'the folder that restored disks get their folder in',
  'restore.removeLeft': 'what a recovery left that died is removed',
  'restore.mkdirHidden': 'the folder of restored disks appears under a hidden name',
  'restore.nameFolder': 'it gets its own name, with all disks',
  'restore.syncParent': 'that name becomes durable',
  'restore.removeHidden': 'what a recovery made that failed is removed',
  'restore.unlinkOverlay': 'the overlay of which a full copy was made is removed',
  'restore.create': 'a restored image appears under a hidden name',
  'restore.metadata': "a restored image's header and tables",
  'restore.writeData': 'data of a restored qcow2 image',
  'restore.writePiece': 'data of a state that a CDP journal tells',
  'restore.writeRaw': 'data of a restored raw image',
  'restore.truncateOverlay': 'an overlay gets its size',
  'restore.truncateImage': 'a restored qcow2 image gets its size',
  'restore.truncatePieces': 'an image of such a state gets its size',
  'restore.truncateRaw': 'a restored raw image gets its size',
  'restore.fsync': 'a restored image becomes durable',
  'restore.link': 'a restored image gets its name, never over another',
  'restore.rename': 'a restored image gets its name where links are not possible',
  'restore.unlink': 'the hidden name is removed',
  'restore.syncDirectory': "a restored image's name becomes durable",
} as const;

const IDENTITY = {
  'identity.mkdir': 'the folder of the key and certificate',
  'identity.create': 'the key and certificate appear under another name',
  'identity.write': 'the key and certificate are written',
  'identity.fsync': 'they become durable',
  'identity.link': 'they get their name, never over others',
  'identity.unlink': 'the other name is removed',
  'identity.syncDirectory': 'their name becomes durable',
} as const;

const TEMPORAL = {
  'temporal.start.schedule': "a schedule's workflow is started",
  'temporal.start.purge': 'what removes the replicas of a deleted schedule is started',
  'temporal.start.release': 'what releases the locks of a deleted schedule is started',
  'temporal.signal.request': "an operator's request is sent to a schedule",
  'temporal.signal.snapshotAvailable': 'a waiting schedule is told of a snapshot',
  'temporal.registerNamespace': 'the namespace is made anew',
  'temporal.registerSearchAttributes': 'search attributes are registered in a namespace',
  'temporal.activity':
    'an activity: before, it was taken from Temporal; after, it is done and not yet answered',
} as const;

/** Every fault point, with what happens there. */
export const FAULT_POINTS = {
  ...CATALOG,
  ...SOURCE,
  ...REPLICA,
  ...REPLICA_FILES,
  ...JOURNAL,
  ...CAPTURE,
  ...RESTORE,
  ...FRAMES,
  ...TEMPORAL,
  ...IDENTITY,
} as const;

export type FaultPoint = keyof typeof FAULT_POINTS;

/** What is reached at a point; `lib/fault-injection.ts` has the one of tests. */
export interface FaultInjector {
  /** Resolves, rejects, or ends the process. */
  reach(point: FaultPoint, when: 'before' | 'after'): Promise<void>;
  /** As {@link reach}, holding up the whole process meanwhile. */
  reachSync(point: FaultPoint, when: 'before' | 'after'): void;
}

let injector: FaultInjector | null = null;

/** Null, as it is from the start, takes the fault points out of the way. */
export function setFaultInjector(next: FaultInjector | null): void {
  injector = next;
}

/** Runs one side effect between its two fault points. Without an injector it costs one comparison. */
export function effect<T>(point: FaultPoint, work: () => PromiseLike<T>): Promise<T> {
  // What knex builds is a promise in all but its type.
  return injector === null ? (work() as Promise<T>) : between(injector, point, work);
}

async function between<T>(reached: FaultInjector, point: FaultPoint, work: () => PromiseLike<T>): Promise<T> {
  await reached.reach(point, 'before');
  const result = await work();
  await reached.reach(point, 'after');
  return result;
}

/** As {@link effect}, for what must not let anything overtake it: a frame on its connection. */
export function effectSync<T>(point: FaultPoint, work: () => T): T {
  if (injector === null) return work();
  injector.reachSync(point, 'before');
  const result = work();
  injector?.reachSync(point, 'after');
  return result;
}

/** The first half of {@link effect}, for an effect that somebody else carries out when we return. */
export function beforeEffect(point: FaultPoint): Promise<void> | null {
  return injector === null ? null : injector.reach(point, 'before');
}

/** The second half of {@link effect}. */
export function afterEffect(point: FaultPoint): Promise<void> | null {
  return injector === null ? null : injector.reach(point, 'after');
}
