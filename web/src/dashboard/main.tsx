// The dashboard of a platform.
import { RouterProvider } from "@tanstack/react-router";
import { start } from "~/design/start";
import { router } from "./router";

start(<RouterProvider router={router} />);
