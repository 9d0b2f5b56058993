/** What every sender says and does on one connection: the hello, and how it parts. */
import { type FrameConnection, outOfOrder } from './connection.ts';
import { ConnectionLostError, errorOfRefusal, ProtocolError, refusalOf } from './errors.ts';
import type { Frame, FrameName } from './frames.ts';
import {
  type ContentWord,
  decodeContentWord,
  decodeLastWord,
  decodeWelcome,
  encodeHello,
  encodeLastWord,
  type Hello,
  PROTOCOL_VERSION,
  type Welcome,
} from './messages.ts';

/** The two sites' clocks, compared in the hello. */
export interface ClockReading {
  /** The receiver's clock minus the sender's; wrong by at most half of the round trip. */
  readonly offsetMs: number;
  readonly roundTripMs: number;
}

export interface SenderConversationOptions {
  readonly hello: Pick<Hello, 'diskTaskUuid' | 'epoch' | 'attempt'>;
  /** All between the welcome and the receiver's last word. */
  readonly converse: (welcome: Welcome) => Promise<ContentWord>;
  /** This site's clock, as the hello tells it. */
  readonly nowMs: () => number;
}

export class SenderConversation {
  readonly #connection: FrameConnection;
  readonly #options: SenderConversationOptions;
  #clock: ClockReading | null = null;

  constructor(connection: FrameConnection, options: SenderConversationOptions) {
    this.#connection = connection;
    this.#options = options;
  }

  /** Null before the welcome. */
  get clock(): ClockReading | null {
    return this.#clock;
  }

  /**
   * @returns the receiver's word that it has all
   * @throws {ConnectionLostError} when it is worth connecting again; all else is not for this class to mend
   */
  async run(): Promise<ContentWord> {
    try {
      const answer = await this.#sayHello();
      return 'contentDigest' in answer ? answer : await this.#options.converse(answer);
    } catch (error) {
      if (error instanceof ConnectionLostError) throw await this.#lastWordOr(error);
      // The operator at the other site sees why, too.
      await this.#connection.finish(encodeLastWord('close', refusalOf(error)));
      throw error;
    }
  }

  async #sayHello(): Promise<Welcome | ContentWord> {
    const { nowMs } = this.#options;
    const sentAtMs = nowMs();
    this.#connection.send(encodeHello({ version: PROTOCOL_VERSION, ...this.#options.hello, sentAtMs }));
    const frame = await expectUnlessRefused(this.#connection, ['welcome', 'received']);
    if (frame.name === 'received') return decodeContentWord('received', frame.payload);
    const answeredAtMs = nowMs();
    const welcome = decodeWelcome(frame.payload);
    if (welcome.version < 1 || welcome.version > PROTOCOL_VERSION) {
      throw new ProtocolError('BadFrame', `the receiver speaks version ${welcome.version}`);
    }
    this.#clock = {
      offsetMs: (welcome.helloAtMs - sentAtMs + (welcome.sentAtMs - answeredAtMs)) / 2,
      roundTripMs: answeredAtMs - sentAtMs - (welcome.sentAtMs - welcome.helloAtMs),
    };
    return welcome;
  }

  /** A refusal may have come just before the connection broke. */
  async #lastWordOr(lost: ConnectionLostError): Promise<Error> {
    try {
      for (;;) {
        await expectUnlessRefused(this.#connection, [
          'ack',
          'start',
          'mapWanted',
          'hashes',
          'compared',
          'received',
        ]);
      }
    } catch (error) {
      return error instanceof ConnectionLostError ? lost : (error as Error);
    }
  }
}

/** The next frame. @throws what a refusal says, in place of the frames that were expected */
export async function expectUnlessRefused(
  connection: FrameConnection,
  names: readonly FrameName[],
): Promise<Frame> {
  const frame = await connection.receive();
  if (frame.name === 'refused') throw errorOfRefusal(decodeLastWord(frame.payload));
  if (!names.includes(frame.name)) throw outOfOrder(frame.name, [...names, 'refused']);
  return frame;
}
