/** Options that several commands have, and what commander does not check of them. */
import { type Command, InvalidArgumentError, Option } from "commander";
import { isEndpointAddress } from "../core/ids.ts";

/** Digits alone: Number would take "" for 0, and read 1e2 and 0x10. */
export function wholeNumber(min = 0, max = Number.MAX_SAFE_INTEGER): (text: string) => number {
  return (text) => {
    const value = Number(text);
    if (/^\d+$/.test(text) && value >= min && value <= max) return value;
    throw new InvalidArgumentError(`Expected a whole number from ${min} to ${max}.`);
  };
}

/** Ends the command before its output is made, where libzmq would refuse later or never say a word. */
export function zmqAddress(text: string): string {
  const isTcp = text.startsWith("tcp://") && isEndpointAddress(text.slice("tcp://".length));
  if (isTcp || /^ipc:\/\/./.test(text)) return text;
  throw new InvalidArgumentError(
    "Expected tcp://host:port with a port from 1 to 65535, or ipc://path.",
  );
}

export function outputOption(): Option {
  return new Option("-o, --output <form>", "form of the answer")
    .choices(["table", "json"])
    .default("table");
}

/** Ends the command where the option `name` was given without `other`, which alone reads it. */
export function refuseWithout(command: Command, name: string, other: string): void {
  const optionOf = (key: string): Option | undefined =>
    command.options.find((option) => option.attributeName() === key);
  if (command.getOptionValue(name) === undefined || command.getOptionValue(other)) return;
  command.error(
    `error: option '${optionOf(name)?.flags}' is read only with option '${optionOf(other)?.flags}'`,
  );
}
