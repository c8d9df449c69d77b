import { blockIndexContract } from "./block-index.contract.ts";
import { MemoryIndex } from "./memory-index.ts";

blockIndexContract(() => new MemoryIndex());
