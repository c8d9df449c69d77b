/** How a simulation speaks to the router under test, in process or beside. */
import type {
  InitMessage,
  RouteAnswer,
  RouteMessage,
  SimulatedRouter,
  SimulateMessage,
} from "../simulate/messages.ts";

export interface RouterLink {
  /** Resolves when the router is there; throws KvError ERR_PROCESS_FAILED. */
  init(message: InitMessage): void | Promise<void>;
  /** A promise only where the router is another process. */
  route(message: RouteMessage): RouteAnswer | Promise<RouteAnswer>;
  tell(message: SimulateMessage): void;
  end(): void | Promise<void>;
}

export function linkInProcess(router: SimulatedRouter): RouterLink {
  return {
    init: (message): void => {
      router.handle(message);
    },
    route: (message): RouteAnswer => {
      const answer = router.handle(message);
      return answer !== null && "pod" in answer ? answer : { pod: null };
    },
    tell: (message): void => {
      router.handle(message);
    },
    end: (): void => {},
  };
}
