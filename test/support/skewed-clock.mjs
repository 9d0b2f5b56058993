/**
 * Preloaded into the processes of a site, it makes their clock another one: OFFSITE_TEST_CLOCKS names a JSON file with
 * milliseconds a site, read again ten times a second, so that a clock may step while its process runs.
 */
import { readFileSync } from 'node:fs';

const path = process.env.OFFSITE_TEST_CLOCKS ?? '';
const site = /site-([a-z0-9-]+)\.yaml/.exec(process.argv.join(' '))?.[1] ?? '';
const RealDate = Date;
let offsetMs = 0;

function look() {
  try {
    offsetMs = Number(JSON.parse(readFileSync(path, 'utf8'))[site] ?? 0);
  } catch {
    // It is being written; the next look finds it.
  }
}

look();
setInterval(look, 100).unref();
globalThis.Date = class extends RealDate {
  constructor(...values) {
    if (values.length === 0) super(RealDate.now() + offsetMs);
    else super(...values);
  }

  static now() {
    return RealDate.now() + offsetMs;
  }
};
