/** What the other site may say, bent in every field: taken, or refused with an error that names the field. */
import { randomUUID } from 'node:crypto';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { withCheckedRequests } from '../../../src/activities/checks/source-inputs.ts';
import { checkedAnswer } from '../../../src/activities/checks/sync-answer.ts';
import { diskWorkflowId, transferQueue } from '../../../src/contract/names.ts';
import type { SyncAnswer } from '../../../src/contract/sync.ts';
import { AnswerInvalidError, OffsiteError } from '../../../src/domain/errors.ts';
import { plainWords, visible } from '../../../src/domain/plain-words.ts';
import { usableAnswer } from '../../../src/domain/usable-answer.ts';
import { answerOf, FINGERPRINT, fenceOf, planOf, queryOf } from '../../integration/catalog/fixtures.ts';

const PROOF = {
  device: '2049',
  inode: '18446744073709551615',
  sizeBytes: 1,
  mtimeNs: '-1',
  ctimeNs: '1700000000000000001',
  headerDigest: 'ab'.repeat(16),
};
const sound = (): SyncAnswer => ({
  ...answerOf(randomUUID(), [
    planOf({ proof: [PROOF] }),
    planOf({ disk: 'vdb', method: 'incremental', baseSnapshot: randomUUID() }),
  ]),
  warnings: ['unexpected compare of disk vda'],
  skipped: [randomUUID()],
  skippedCount: 1,
  newestSequence: 9,
});

/** Every place within a value, such as `['target', 'disks', 0, 'disk']`; not the value itself. */
function placesOf(
  value: unknown,
  above: readonly (string | number)[] = [],
): (readonly (string | number)[])[] {
  if (typeof value !== 'object' || value === null) return [];
  const keys = Array.isArray(value) ? [...value.keys()] : Object.keys(value);
  return keys.flatMap(key => {
    const place = [...above, key];
    return [place, ...placesOf((value as Record<string | number, unknown>)[key], place)];
  });
}

function bent<Value>(value: Value, place: readonly (string | number)[], to: unknown): Value {
  const copy = structuredClone(value);
  let parent = copy as Record<string | number, unknown>;
  for (const key of place.slice(0, -1)) parent = parent[key] as typeof parent;
  parent[place.at(-1) ?? ''] = to;
  return copy;
}

/** Words that do harm where they are printed, names that lead elsewhere, numbers at and beyond every edge. */
const hostile = fc.oneof(
  fc.string({ unit: 'binary', maxLength: 40 }),
  fc.constantFrom(
    '\u001b]0;owned\u0007',
    '../../etc',
    'n1.control',
    'a'.repeat(65),
    '',
    '\u0000',
    '\ud800',
    'x'.repeat(1_000_001),
  ),
  fc.constantFrom(Number.NaN, Number.POSITIVE_INFINITY, -1, 0.5, 2 ** 53, -0, 9e15, 1e308),
  fc.jsonValue(),
  fc.constantFrom(
    undefined,
    null,
    true,
    [],
    {},
    Array.from({ length: 1_001 }, () => 'x'),
  ),
);

/** Prints, and names queues and children. */
function whatTheWorkflowDoes({ target, reason, warnings, newestSequence, skippedCount }: SyncAnswer): void {
  const printed = [reason, ...warnings, `${newestSequence} ${skippedCount}`];
  if (target !== null) {
    printed.push(
      `${target.hostSnapshot} ${new Date(target.takenAtMs).toISOString()} ${target.sourceSequence}`,
    );
    for (const disk of target.disks) {
      expect(transferQueue('a', disk.sourceNode).split('.')).toHaveLength(3);
      printed.push(`${diskWorkflowId('t', 1, disk.disk)} ${disk.method} ${disk.reason}`);
    }
  }
  for (const text of printed) expect(visible(text)).toBe(text);
}

const codeOf = (work: () => unknown): string | null => {
  try {
    work();
    return null;
  } catch (error) {
    if (!(error instanceof OffsiteError)) throw error;
    expect(visible(error.message)).toBe(error.message);
    expect(error.message.length).toBeLessThan(500);
    return error.code;
  }
};

describe("the source's answer", () => {
  it('is taken as it is when it is sound, and unknown fields are left out', () => {
    const answer = sound();
    expect(checkedAnswer({ ...answer, ofALaterVersion: 1 })).toEqual(answer);
    expect(usableAnswer(answer)).toEqual(answer);
    const nothing = { ...answer, result: 'none', target: null } as const;
    expect(checkedAnswer(nothing)).toEqual(nothing);
    expect(usableAnswer(nothing)).toEqual(nothing);
  });

  it('is refused by its field and value where it cannot be', () => {
    const cases: [place: (string | number)[], value: unknown, told: RegExp][] = [
      [['target', 'disks', 1, 'sourceNode'], 'n1.control', /target\.disks\[1\]\.sourceNode is 'n1\.control'/],
      [['target', 'disks', 0, 'disk'], '../vda', /target\.disks\[0\]\.disk is '\.\.\/vda'/],
      [['target', 'takenAtMs'], 1e18, /target\.takenAtMs is 1000000000000000000/],
      [['target', 'disks'], [], /target\.disks is a list of 0/],
      [['target'], null, /target/],
      [['warnings'], 'none', /warnings is 'none'/],
    ];
    for (const [place, value, told] of cases) {
      const answer = bent(sound(), place, value);
      expect(() => usableAnswer(answer)).toThrow(told);
      expect(() => usableAnswer(answer)).toThrow(AnswerInvalidError);
      expect(() => checkedAnswer(answer)).toThrow(told);
    }
    const only = (field: string, value: unknown) => () =>
      checkedAnswer(bent(sound(), ['target', 'disks', 0, field], value));
    expect(only('senderFingerprint', FINGERPRINT.toUpperCase())).toThrow(/senderFingerprint/);
    expect(only('virtualSizeBytes', 2 ** 53)).toThrow(/virtualSizeBytes is 9007199254740992/);
    const twice = bent(sound(), ['target', 'disks', 1, 'disk'], 'vda');
    expect(() => usableAnswer(twice)).toThrow(/there twice/);
    expect(() => checkedAnswer(twice)).toThrow(/each disk once/);
  });

  it('bent anywhere is refused, or its words are fit to be shown and the workflow can tell of it', () => {
    fc.assert(
      fc.property(fc.nat(), hostile, (pick, value) => {
        const answer = sound();
        const places = placesOf(answer);
        const mutant = bent(answer, places[pick % places.length] ?? [], value);
        let usable: SyncAnswer;
        try {
          usable = usableAnswer(mutant);
        } catch (error) {
          expect(error).toBeInstanceOf(AnswerInvalidError);
          return;
        }
        expect(() => whatTheWorkflowDoes(usable)).not.toThrow();
        const code = codeOf(() => checkedAnswer(mutant));
        expect([null, 'AnswerInvalid']).toContain(code);
        if (code !== null) return;
        const taken = checkedAnswer(mutant);
        const said = [
          taken.reason,
          ...taken.warnings,
          ...(taken.target?.disks ?? []).map(disk => disk.reason),
        ];
        for (const text of said) expect(plainWords(text)).toBe(text);
      }),
      { numRuns: 2_000 },
    );
  });

  it('of any other kind is refused', () => {
    fc.assert(
      fc.property(fc.anything(), value => {
        expect(() => usableAnswer(value)).toThrow(AnswerInvalidError);
        expect(codeOf(() => checkedAnswer(value))).toBe('AnswerInvalid');
      }),
    );
  });
});

describe("the replica's requests", () => {
  const fence = fenceOf(randomUUID(), 3);
  const { lockType } = queryOf('web1', fence);
  const uuid = randomUUID();
  const inputs: Record<string, object> = {
    stopPreviousDiskTasks: { fence },
    querySyncInfo: queryOf('web1', fence, {
      prev: {
        hostSnapshot: uuid,
        taskUuid: uuid,
        position: null,
        proofs: [{ disk: 'vda', layers: [PROOF] }],
      },
      unfinished: { hostSnapshot: uuid },
      replicaDoubts: [{ disk: 'vda', doubt: 'its file was written to' }],
      comparable: [{ disk: 'vda', what: 'seed' }],
    }),
    releaseOtherLocks: { fence, lockType, keepTaskUuids: [uuid] },
    releaseUnfinished: { fence: { ...fence, plan: 0 }, lockType, keepGeneration: 2, keepTaskUuids: [uuid] },
    setRate: { scheduleUuid: uuid, taskUuid: uuid, revision: 1, bandwidthBytesPerSecond: null },
    retireSchedule: { scheduleUuid: fence.scheduleUuid, lockType },
    sendDisk: {
      fence,
      ...{ replicaSite: 'b', host: 'web1', disk: 'vda', taskUuid: uuid, diskTaskUuid: uuid },
      ...{ hostSnapshot: uuid, method: 'incremental', baseSnapshot: uuid, proof: [PROOF] },
      receiver: {
        host: '2001:db8::1',
        port: 7070,
        fingerprint: FINGERPRINT,
        epoch: { generation: 3, plan: 1, openCount: 1 },
      },
      bandwidthBytesPerSecond: 1,
    },
    stopSender: { fence, diskTaskUuid: uuid },
  };
  /** Activities that give back what they were let see. */
  const echo = Object.fromEntries(Object.keys(inputs).map(name => [name, async (input: unknown) => input]));
  const guarded = withCheckedRequests(echo as never) as unknown as Record<
    string,
    (input: unknown) => Promise<unknown>
  >;

  it('are let through when they are sound', async () => {
    for (const [name, input] of Object.entries(inputs)) expect(await guarded[name]?.(input)).toEqual(input);
    for (const host of ['127.0.0.1', 'b.example.org', '::1', 'fe80::1%eth0']) {
      const input = bent(inputs.sendDisk, ['receiver', 'host'], host);
      expect(await guarded.sendDisk?.(input)).toEqual(input);
    }
  });

  it('for the locks of another schedule are refused', async () => {
    const foreign = queryOf('web1', fenceOf(randomUUID(), 1)).lockType;
    for (const name of ['querySyncInfo', 'releaseOtherLocks', 'releaseUnfinished', 'retireSchedule']) {
      const input = bent(inputs[name], ['lockType'], foreign);
      await expect(guarded[name]?.(input)).rejects.toThrow(/lockType is .*must be the schedule's own/);
    }
  });

  it('bent anywhere are refused by their field, or hold nothing that is not to be shown', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.constantFrom(...Object.keys(inputs)),
        fc.nat(),
        hostile,
        async (name, pick, value) => {
          const places = placesOf(inputs[name]);
          const place = places[pick % places.length] ?? [];
          try {
            const taken = JSON.stringify(await guarded[name]?.(bent(inputs[name], place, value)));
            expect(JSON.stringify(JSON.parse(taken))).toBe(visible(taken));
          } catch (error) {
            if (!(error instanceof OffsiteError)) throw error;
            expect(error.code).toBe('RequestInvalid');
            expect(error.message).toContain(name);
            expect(visible(error.message)).toBe(error.message);
          }
        },
      ),
      { numRuns: 2_000 },
    );
  });
});
