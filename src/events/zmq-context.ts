/**
 * The one ZMQ context of a thread: libzmq's own allows 1,023 sockets, and a holder that is followed takes
 * three (events, their monitor, and a replay), so that some 340 ranks would be all.
 */
import { Context } from "zeromq";

/** What libzmq can number. */
const SOCKETS_MAX = 65_535;

export const zmqContext: Context = new Context({ maxSockets: SOCKETS_MAX });
