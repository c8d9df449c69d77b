/** Processes of the edge bench: a router, a server with a trivial picker, engines that send events. */
import { type ChildProcess, fork } from "node:child_process";
import type { Figures } from "./edge-figures.ts";

export interface EdgeProcess<Ready> {
  /** What it said of itself when it was ready. */
  readonly ready: Ready;
  readonly send: (message: string) => void;
  readonly figures: (when?: "after gc") => Promise<Figures>;
  readonly stop: () => Promise<void>;
}

/** `file` beside this one, with `argument` as JSON; resolves when it has told that it is ready. */
export async function startProcess<Ready>(
  file: string,
  argument: unknown,
): Promise<EdgeProcess<Ready>> {
  const child = fork(new URL(file, import.meta.url), [JSON.stringify(argument)], {
    execArgv: ["--expose-gc"],
  });
  const ready = await nextMessage<Ready>(child);
  return {
    ready,
    send: (message) => void child.send(message),
    figures: (when) => {
      const answer = nextMessage<Figures>(child);
      child.send(when === undefined ? "figures" : `figures ${when}`);
      return answer;
    },
    stop: async (): Promise<void> => {
      const ended = new Promise((resolve) => child.once("exit", resolve));
      child.disconnect();
      await ended;
    },
  };
}

function nextMessage<Message>(from: ChildProcess): Promise<Message> {
  return new Promise((resolve, reject) => {
    const onExit = (code: number | null): void =>
      reject(new Error(`a process of the bench ended: ${code}`));
    from.once("exit", onExit);
    from.once("message", (each) => {
      from.off("exit", onExit);
      resolve(each as Message);
    });
  });
}
