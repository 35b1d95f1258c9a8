"""sentinelctl build: our own images, from this installation's sources."""

from typing import Annotated

import typer

_MB = 1e6


def build(
    ctx: typer.Context,
    images: Annotated[list[str] | None, typer.Argument(metavar="[IMAGE]...", help="Default: all.")] = None,
    no_cache: Annotated[bool, typer.Option("--no-cache", help="From nothing that the engine kept.")] = False,
) -> None:
    """Build the images that containers run.

    Each is named by a digest of what goes into it, so `up` builds what is missing by itself and replaces what ran an
    older one. `images.python` is what they are built on. A second name, without the digest, is for compose files.
    """
    import time

    from sentinelctl.cli.progress import bars, named_services
    from sentinelctl.containers import own_images
    from sentinelctl.runtime.docker import DockerRuntime
    from sentinelctl.runtime.engine import address_of

    console, settings = ctx.obj.console, ctx.obj.written()
    found = {image.name: image for image in own_images(settings)}
    names = named_services(images, found.keys())
    runtime = DockerRuntime(
        settings.project.name,
        address_of(settings.docker.host),
        own={image.reference: image for image in found.values()},
        base=settings.images.python,
    )
    rows = []
    with bars(console) as progress:
        for name in names:
            began = time.monotonic()
            reference = found[name].reference
            size = runtime.build(reference, progress, is_fresh=no_cache)
            runtime.tag(reference, found[name].tag)
            seconds = time.monotonic() - began
            base = runtime.size(settings.images.python)
            rows.append({"image": reference, "bytes": size, "base_bytes": base, "seconds": round(seconds, 1)})
            console.note(
                f"built {reference}, {size / _MB:.0f} MB, {base / _MB:.0f} of them the base, in {seconds:.1f} s"
            )
    runtime.close()
    if console.is_json:
        console.document({"version": 1, "base": settings.images.python, "images": rows})
