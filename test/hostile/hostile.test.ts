/** The short form of the campaigns in docs/reliability-fuzz.md: some thousands of cases of each target. */
import { afterAll, describe, expect, test } from 'vitest';
import { type CampaignReport, runCampaign } from './campaign.ts';
import { openTarget, TARGET_NAMES } from './targets.ts';

const SEED = Number(process.env.OFFSITE_PROPERTY_SEED ?? 20261124);
const CASES = {
  qcow2: 6_000,
  frames: 20_000,
  receiver: 10_000,
  sender: 8_000,
  journals: 10_000,
  files: 10_000,
};
/** What a campaign must reach to be worth its name: refusals of many kinds, and input that is taken. */
const REACHES = {
  qcow2: [
    'ImageCorrupt',
    'ImageUnsupported',
    'ImageOutsideRoots',
    'ImageChainLoop',
    'ImageVanished',
    'BackingFormatMissing',
  ],
  frames: ['BadChecksum', 'BadFrame', 'FrameTooLarge', 'UnknownFrame'],
  receiver: [
    'FrameOutOfOrder',
    'BadPosition',
    'DigestMismatch',
    'ExtentMapInvalid',
    'NotAdmitted',
    'StaleAttempt',
  ],
  sender: ['FrameOutOfOrder', 'BadPosition', 'DigestMismatch', 'BadFrame', 'ConnectionLost', 'PlanBroken'],
  journals: ['JournalInvalid', 'JournalDamaged', 'no record'],
  files: ['ReplicaFileInvalid', 'map sent again', 'begins anew'],
};
const stackTraceLimit = Error.stackTraceLimit;
afterAll(() => {
  Error.stackTraceLimit = stackTraceLimit;
});

describe('hostile input', () => {
  test.each(TARGET_NAMES)('%s: refused by name or taken, within bounds', async name => {
    const target = await openTarget(name);
    let report: CampaignReport;
    try {
      report = await runCampaign(target, { seed: SEED, first: 0, cases: CASES[name] });
    } finally {
      await target.close();
    }
    expect(report.failures).toEqual([]);
    expect(report.cases).toBe(CASES[name]);
    expect(Object.keys(report.outcomes)).toEqual(expect.arrayContaining(['accepted', ...REACHES[name]]));
  });
});
