// The pages of the local UI. State lives in the query, under the documented keys (state.ts).
import {
  createRootRoute,
  createRoute,
  createRouter,
  lazyRouteComponent,
  redirect,
} from "@tanstack/react-router";
import { Failure } from "~/design/Panel";
import { Shell } from "./Shell";
import { type LocalState, readState, writeState } from "./state";

const root = createRootRoute({
  component: Shell,
  errorComponent: ({ error, reset }) => (
    <Failure title="The page could not be shown" error={error} retry={reset} />
  ),
});
const index = createRoute({
  getParentRoute: () => root,
  path: "/",
  beforeLoad: () => {
    throw redirect({ to: "/table", search: true, replace: true });
  },
});
const table = createRoute({
  getParentRoute: () => root,
  path: "/table",
  component: lazyRouteComponent(() => import("./table/TablePage"), "TablePage"),
});
const pivot = createRoute({
  getParentRoute: () => root,
  path: "/pivot",
  component: lazyRouteComponent(() => import("./pivot/PivotPage"), "PivotPage"),
});
const compare = createRoute({
  getParentRoute: () => root,
  path: "/compare",
  component: lazyRouteComponent(() => import("./compare/ComparePage"), "ComparePage"),
});
const elsewhere = createRoute({
  getParentRoute: () => root,
  path: "$",
  beforeLoad: () => {
    throw redirect({ to: "/table", search: true, replace: true });
  },
});

export const router = createRouter({
  routeTree: root.addChildren([index, table, pivot, compare, elsewhere]),
  defaultPreload: false,
  parseSearch: (search) => readState(search) as unknown as Record<string, unknown>,
  stringifySearch: (state) => writeState(state as unknown as LocalState),
});
