"""The page: Gradio around `answers`. It asks no other host for anything, and keeps no photo."""

from __future__ import annotations

import contextlib
import os
import pathlib
import signal
import socket
import sys
import tempfile
from collections.abc import Sequence

import numpy as np

from focusclip_jax import demo
from focusclip_jax.demo import answers, inputs, results
from focusclip_jax.errors import UserError

# Before Gradio is imported: it reports starts and looks for newer versions, and so does what it builds upon.
QUIET = {
    "GRADIO_ANALYTICS_ENABLED": "False",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "HF_HUB_OFFLINE": "1",
    "DISABLE_TELEMETRY": "1",
    "DO_NOT_TRACK": "1",
}
os.environ.update(QUIET)

import gradio as gr  # noqa: E402
from starlette.middleware import Middleware  # noqa: E402
from starlette.middleware.trustedhost import TrustedHostMiddleware  # noqa: E402

STYLE = (pathlib.Path(__file__).parent / "demo.css").read_text("utf-8")
MAX_UPLOAD = "40mb"
KEPT_SECONDS = 600  # that an uploaded file stays on the disk, and how often old ones are looked for

JOINTS_HELP = """\
Pixels of the photo, from its upper left corner, as JSON: by name, {"left wrist": [412, 230], …}, or 16 \
pairs in MPII's order, [[x, y], null, …]; of several people a list. “Left” is the person's own."""


def serve(runs: Sequence[answers.Run], host: str, port: int) -> None:
    """Answer until Ctrl-C. Raises UserError where the address cannot be listened at."""
    port = _open_port(host, port)
    print("Compiling …", file=sys.stderr)
    warm_up(runs)
    with tempfile.TemporaryDirectory(prefix="focusclip-demo-") as uploads:
        os.environ["GRADIO_TEMP_DIR"] = uploads
        page = build(runs)
        _, address, _ = page.launch(
            server_name=host,
            server_port=port,
            prevent_thread_lock=True,
            share=False,
            quiet=True,
            show_error=False,
            max_file_size=MAX_UPLOAD,
            footer_links=[],
            ssr_mode=False,
            pwa=False,
            enable_monitoring=False,
            mcp_server=False,
            run_history=False,
            app_kwargs={"middleware": middleware(host)},
            theme=theme(),
            css=STYLE,
        )
        print(f"Demo: {address}  (Ctrl-C ends it)", flush=True)
        if host not in demo.LOCAL:
            print("Whoever reaches this machine can use it: there is no password.", file=sys.stderr)
        signal.signal(signal.SIGTERM, signal.default_int_handler)  # like Ctrl-C: the uploads go too
        try:
            page.block_thread()
        finally:
            with contextlib.redirect_stdout(sys.stderr):
                page.close()


def warm_up(runs: Sequence[answers.Run]) -> None:
    """Compile what a first question needs, of five to eight labels, so that it does not wait."""
    answers.ask(runs, np.full((64, 64, 3), 128, np.uint8), list("abcde"), runs[0].prompt)


def build(runs: Sequence[answers.Run]) -> gr.Blocks:
    """The page, not yet served."""

    def look(path, labels, prompt, joints, text, progress=gr.Progress()):  # noqa: B008
        # What stands in a closed accordion and was never shown arrives as None.
        try:
            answered = answers.ask(
                runs,
                inputs.read_photo(path),
                inputs.read_labels(labels),
                prompt,
                inputs.read_joints(joints or ""),
                text or "",
                lambda done, doing: progress(done, desc=doing),
            )
            return results.html(answered)
        except UserError as error:
            return results.complaint(str(error))

    def read_file(path):
        try:
            return inputs.read_joints_file(path), gr.skip()
        except UserError as error:
            return gr.skip(), results.complaint(str(error))

    with gr.Blocks(
        title="FocusCLIP: where does it look?",
        analytics_enabled=False,
        fill_width=True,
        delete_cache=(KEPT_SECONDS, KEPT_SECONDS),
    ) as page:
        gr.HTML(results.heading([run.name for run in runs]), elem_id="title")
        with gr.Row(equal_height=False):
            with gr.Column(scale=4, min_width=320, elem_id="asked"):
                photo = gr.Image(
                    label="Photo",
                    type="filepath",
                    sources=["upload", "clipboard"],
                    height=260,
                    elem_id="photo",
                )
                # Its file reaches `inputs.read_photo` unopened, which can say what is wrong with it.
                vars(photo)["preprocess"] = lambda payload: None if payload is None else payload.path
                labels = gr.Textbox(label="Labels, one a line", lines=5, max_lines=12, elem_id="labels")
                prompt = gr.Textbox(label="Prompt, {} is the label", value=runs[0].prompt, elem_id="prompt")
                with gr.Accordion("Joints and more", open=False, elem_id="more"):
                    joints = gr.Textbox(
                        label="Joints", info=JOINTS_HELP, lines=4, max_lines=10, elem_id="joints"
                    )
                    file = gr.UploadButton("Read joints from a JSON file", size="sm", elem_id="joints-file")
                    text = gr.Textbox(
                        label="Text of the gradient map",
                        info="Empty: the likeliest label of the first model, in the prompt.",
                        elem_id="text",
                    )
                button = gr.Button("Look", variant="primary", elem_id="look")
            with gr.Column(scale=9, min_width=480):
                shown = gr.HTML(results.waiting(), elem_id="answers", min_height=400)
        asked = [photo, labels, prompt, joints, text]
        button.click(look, asked, shown, api_visibility="private")
        file.upload(read_file, file, [joints, shown], api_visibility="private")
    return page


class Policy:
    """ASGI: every answer forbids the browser to ask any other host, whatever a version of Gradio would."""

    HEADER = (
        b"content-security-policy",
        b"default-src 'self' 'unsafe-inline' 'unsafe-eval' data: blob:; "
        b"form-action 'self'; frame-ancestors 'self'",
    )

    def __init__(self, app):
        self.app = app

    async def __call__(self, scope, receive, send):
        async def with_policy(message):
            if message["type"] == "http.response.start":
                message = message | {"headers": [*message["headers"], self.HEADER]}
            await send(message)

        await self.app(scope, receive, with_policy)


def middleware(host: str) -> list[Middleware]:
    """Of a local page also: only who calls this machine by its own name is answered, not a site that had its
    name point here."""
    named = [Middleware(TrustedHostMiddleware, allowed_hosts=["127.0.0.1", "localhost"])]
    return [Middleware(Policy), *(named if host in ("127.0.0.1", "localhost") else [])]


def theme() -> gr.themes.Base:
    """The machine's own fonts: none is loaded."""
    return gr.themes.Default(
        primary_hue="blue",
        neutral_hue="slate",
        font=["system-ui", "sans-serif"],
        font_mono=["ui-monospace", "monospace"],
    )


def _open_port(host: str, port: int) -> int:
    """The port, or a free one for 0. Raises UserError where it cannot be listened at."""
    try:
        with socket.create_server((host, port)) as found:
            return found.getsockname()[1]
    except OSError as error:
        reason = error.strerror or error
        raise UserError(f"--host={host} --port={port}: cannot be listened at ({reason})") from None
