// `ep logs`: every rollout of every local run.
import { RouterProvider } from "@tanstack/react-router";
import { start } from "~/design/start";
import { router } from "./router";

start(<RouterProvider router={router} />);
