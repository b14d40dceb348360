"""Bottlenecks in an encoder: put in, taken out, listened to, edited, placed, restarted."""

from __future__ import annotations

import copy
import functools

import pytest
import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from speechvq.nn.bottleneck import ABLATED, ABSENT
from speechvq.nn.bottleneck_sites import (
    attach_alike,
    attach_bottleneck,
    bypass_bottlenecks,
    capture_codes,
    compute_num_active,
    detach_bottlenecks,
    list_bottlenecks,
    set_num_active,
)
from speechvq.nn.code_edits import Edit, EditMode, Interchange, apply_edits
from speechvq.nn.code_placement import FrameSample, place_codebooks, restart_unused
from speechvq.nn.code_tally import CodeTally
from speechvq.nn.places import Place, Site
from speechvq.nn.transformer import Encoder

HEADS, FEED_FORWARD = Place(1, Site.heads), Place(2, Site.feed_forward)


def create_encoder(*, norm_first: bool = True, conv_kernel: int = 0) -> Encoder:
    torch.manual_seed(0)
    encoder = Encoder(
        3,
        16,
        4,
        32,
        conv_kernel=conv_kernel,
        norm_first=norm_first,
        dropout=0.0,
        attention_dropout=0.0,
        activation_dropout=0.0,
        layer_drop_prob=0.0,
    )
    return encoder.eval()


def attach_both(encoder: Encoder, num_active: int = 3) -> Encoder:
    attach_bottleneck(encoder, HEADS, codebook_size=12, num_active=num_active)
    attach_bottleneck(encoder, FEED_FORWARD, codebook_size=20, num_active=num_active)
    return encoder


def capture(encoder: Encoder, frames: Tensor, padding: Tensor | None = None):
    found = {}
    with capture_codes(encoder, found.__setitem__):
        context, _ = encoder(frames, padding)
    return context, found


@pytest.mark.parametrize("norm_first", [True, False])
@pytest.mark.parametrize("conv_kernel", [0, 3])
def test_detached_model_is_the_original_bit_for_bit(norm_first: bool, conv_kernel: int) -> None:
    encoder = create_encoder(norm_first=norm_first, conv_kernel=conv_kernel)
    frames = torch.randn(2, 9, 16)
    names, (before, _) = list(encoder.state_dict()), encoder(frames, None)
    attach_both(encoder)
    assert type(encoder) is Encoder
    assert not torch.equal(encoder(frames, None)[0], before)
    with bypass_bottlenecks(encoder):
        assert torch.equal(encoder(frames, None)[0], before)
    added = set(encoder.state_dict()) - set(names)
    assert added == {
        f"layers.{host}.bottleneck.{name}"
        for host in ("1.attention.output", "2.feed_forward")
        for name in ("codebooks", "norm_weight", "norm_bias")
    }
    detach_bottlenecks(encoder)
    assert list(encoder.state_dict()) == names
    assert torch.equal(encoder(frames, None)[0], before)
    hooks = [(m._forward_hooks, m._forward_pre_hooks) for m in encoder.modules()]
    assert not any(first or second for first, second in hooks)


def test_bottlenecks_stand_before_the_output_projection_and_after_the_feed_forward_part() -> None:
    encoder = attach_both(create_encoder())
    seen = {}
    layers = encoder.layers
    handles = [
        layers[1].attention.output.register_forward_hook(
            lambda host, args, output: seen.update(heads=(args[0], output))
        ),
        layers[2].feed_forward.register_forward_hook(
            lambda host, args, output: seen.update(feed_forward=output)
        ),
    ]
    frames = torch.randn(2, 9, 16)
    _, found = capture(encoder, frames)
    for handle in handles:
        handle.remove()
    assert list(found) == [HEADS, FEED_FORWARD]
    assert found[HEADS].codes.shape == (2, 9, 4, 3)
    assert found[FEED_FORWARD].codes.shape == (2, 9, 1, 3)
    assert torch.equal(seen["heads"][0], found[HEADS].vectors)
    assert torch.equal(seen["feed_forward"], found[FEED_FORWARD].vectors)


def test_padding_does_not_change_valid_frames_or_losses() -> None:
    encoder = attach_both(create_encoder())
    frames = torch.randn(2, 20, 16)
    padding = torch.arange(20) >= torch.tensor([20, 13])[:, None]
    context, found = capture(encoder, frames, padding)
    alone, single = capture(encoder, frames[1:, :13])
    torch.testing.assert_close(context[1, :13], alone[0])
    first = capture(encoder, frames[:1])[1]
    for place, output in found.items():
        assert torch.equal(output.codes[1, :13], single[place].codes[0])
        assert (output.codes[1, 13:] == ABLATED).all()
        expected = (first[place].losses * 20 + single[place].losses * 13) / 33
        torch.testing.assert_close(output.losses, expected)
    assert capture(encoder, frames)[1][HEADS].padding is None


def test_nothing_is_handed_over_afterwards_and_a_copy_uses_its_own_codes() -> None:
    encoder = attach_both(create_encoder())
    frames = torch.randn(2, 9, 16)
    context, found = capture(encoder, frames)
    assert torch.equal(encoder(frames, None)[0], context)
    clone = copy.deepcopy(encoder)
    codes = found[HEADS].codes
    with torch.no_grad():
        list_bottlenecks(clone)[HEADS].codebooks.mul_(-1.0)
    assert torch.equal(encoder(frames, None)[0], context)
    changed, other = capture(clone, frames)
    assert not torch.equal(changed, context)
    assert not torch.equal(other[HEADS].codes, codes)
    detach_bottlenecks(clone)
    assert torch.equal(encoder(frames, None)[0], context)


def test_recomputed_layers_have_the_same_gradients() -> None:
    frames = torch.randn(2, 9, 16)
    padding = torch.arange(9) >= torch.tensor([9, 6])[:, None]
    grads = []
    for recomputes in (False, True):
        encoder = attach_both(create_encoder())
        for layer in encoder.layers if recomputes else ():
            layer.forward = functools.partial(checkpoint, layer.forward, use_reentrant=False)
        context, found = capture(encoder, frames, padding)
        loss = context[~padding].square().sum() + sum(o.losses.sum() for o in found.values())
        loss.backward()
        grads.append({name: p.grad for name, p in encoder.named_parameters()})
    for name, grad in grads[0].items():
        assert grad is not None, name
        torch.testing.assert_close(grads[1][name], grad)


@pytest.mark.parametrize("num_active", [1, 3])
@pytest.mark.parametrize("mode", list(EditMode))
def test_edit_to_what_is_there_is_bit_exact(mode: EditMode, num_active: int) -> None:
    encoder = attach_both(create_encoder(), num_active)
    frames = torch.randn(1, 9, 16)
    context, found = capture(encoder, frames)
    for place in (HEADS, FEED_FORWARD):
        codes = found[place].codes[0]  # (T, G, k)
        heads = range(codes.size(1))
        if mode is EditMode.ablate:
            chosen = [(t, h, int(c)) for t in range(9) for h in heads for c in range(12)
                      if c not in codes[t, h]]  # fmt: skip
        elif mode is EditMode.all and num_active > 1:
            continue  # the mean of k times one code is another
        else:
            chosen = [(t, h, int(c)) for t in range(9) for h in heads for c in codes[t, h]]
        edits = [
            Edit(layer=place.layer, site=place.site, head=h, span=(t, t + 1), code=c, mode=mode)
            for t, h, c in chosen
        ]
        with apply_edits(encoder, edits):
            assert torch.equal(encoder(frames, None)[0], context)
    recorded = [
        Interchange(layer=layer, site=site, span=(2, 7), codes=output.codes[:, 2:7])
        for (layer, site), output in found.items()
    ]
    with apply_edits(encoder, recorded):
        assert torch.equal(encoder(frames, None)[0], context)


def test_modes_by_hand() -> None:
    codes = torch.tensor([[[[4, 2]], [[2, 5]], [[7, 1]]]])  # (1, 3, 1, 2)

    def edit(mode: EditMode, code: int | None, codes: Tensor = codes) -> list:
        one = Edit(layer=0, head=0, span=(1, 3), code=code, mode=mode)
        return one.apply(codes)[0, :, 0].tolist()

    assert edit(EditMode.one, 5) == [[4, 2], [2, 5], [7, 5]]
    assert edit(EditMode.all, 5) == [[4, 2], [5, 5], [5, 5]]
    assert edit(EditMode.append, 5) == [[4, 2, ABSENT], [2, 5, ABSENT], [7, 1, 5]]
    assert edit(EditMode.ablate, 5) == [[4, 2], [2, ABLATED], [7, 1]]
    assert edit(EditMode.ablate, None) == [[4, 2], [ABLATED] * 2, [ABLATED] * 2]
    longer = Edit(layer=0, head=0, span=(2, 3), code=5, mode=EditMode.append).apply(codes)
    assert edit(EditMode.append, 9, longer)[1:] == [[2, 5, 9, ABSENT], [7, 1, 5, 9]]
    assert edit(EditMode.one, 9, longer)[1:] == [[2, 9, ABSENT], [7, 1, 9]]
    assert edit(EditMode.all, 9, longer)[1:] == [[9, 9, ABSENT], [9, 9, 9]]
    assert codes.tolist() == [[[[4, 2]], [[2, 5]], [[7, 1]]]]


def test_edits_reach_the_output_of_their_row_and_span_only() -> None:
    encoder = attach_both(create_encoder())
    frames = torch.randn(2, 9, 16)
    before, found = capture(encoder, frames)
    edit = Edit(
        layer=2, site=Site.feed_forward, head=0, span=(3, 5), code=None, mode=EditMode.ablate, row=1
    )
    with apply_edits(encoder, [edit]):
        context, changed = capture(encoder, frames)
    assert torch.all(changed[FEED_FORWARD].vectors[1, 3:5] == 0.0)
    is_same = (context == before).all(-1)
    expected = torch.ones(2, 9, dtype=torch.bool)
    expected[1, 3:5] = False
    assert torch.equal(is_same, expected)  # the last layer: nothing looks at it any more
    assert torch.equal(encoder(frames, None)[0], before)
    code = next(c for c in range(12) if c not in found[HEADS].codes[:, 3, 2])
    for mode in (EditMode.one, EditMode.all, EditMode.append):
        edit = Edit(layer=1, head=2, span=(3, 4), code=code, mode=mode)
        with apply_edits(encoder, [edit]):
            context, changed = capture(encoder, frames)
        assert (changed[HEADS].codes[:, 3, 2] == code).any(-1).all()
        assert torch.equal(changed[HEADS].codes[..., :2, :3], found[HEADS].codes[..., :2, :])
        assert not (context == before).all(-1).any()  # the layer above sees all frames


def test_interchange_gives_what_was_recorded() -> None:
    encoder = attach_both(create_encoder())
    frames = torch.randn(2, 9, 16)
    _, found = capture(encoder, frames)
    codes = found[FEED_FORWARD].codes.flip(0)[:, 4:6]
    edit = Interchange(layer=2, site=Site.feed_forward, span=(4, 6), codes=codes)
    with apply_edits(encoder, [edit]):
        _, changed = capture(encoder, frames)
    vectors = found[FEED_FORWARD].vectors
    assert torch.equal(changed[FEED_FORWARD].vectors[:, 4:6], vectors.flip(0)[:, 4:6])
    assert torch.equal(changed[FEED_FORWARD].vectors[:, :4], vectors[:, :4])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"layer": 0}, "needs a bottleneck at layer 0 heads, but the model's are: layer 1 heads"),
        ({"site": Site.feed_forward}, "needs a bottleneck at layer 1 feed_forward"),
        ({"head": 4}, "`head` must be from 0 to 3"),
        ({"code": 12}, "`code` must be from 0 to 11"),
        ({"code": None}, "`code` must be given with mode one"),
        ({"span": (4, 4)}, "`span` must be a frame and a later one"),
        ({"span": (4, 10)}, "`span` must end at frame 9"),
        ({"row": 2}, "`row` must be from 0 to 1"),
    ],
)
def test_impossible_edits_are_refused(changes: dict, message: str) -> None:
    encoder = attach_both(create_encoder())
    options = {"layer": 1, "head": 0, "span": (0, 2), "code": 1, "mode": EditMode.one}
    with (
        pytest.raises(ValueError, match=message),
        apply_edits(encoder, [Edit(**(options | changes))]),
    ):
        encoder(torch.randn(2, 9, 16), None)
    assert not list_bottlenecks(encoder)[HEADS].attachment.edits


def test_impossible_places_are_refused() -> None:
    encoder = attach_both(create_encoder())
    options = {"codebook_size": 12, "num_active": 1}
    with pytest.raises(ValueError, match="There is a bottleneck at layer 1 heads already"):
        attach_bottleneck(encoder, HEADS, **options)
    with pytest.raises(ValueError, match="`layer` must be from 0 to 2"):
        attach_bottleneck(encoder, Place(3, Site.heads), **options)
    with pytest.raises(ValueError, match=r"must be the number of heads \(4\)"):
        attach_bottleneck(encoder, Place(0, Site.heads), **options, num_codebooks=2)


def test_alike_and_schedule() -> None:
    encoder = attach_both(create_encoder())
    other = create_encoder()
    set_num_active(encoder, 2)
    attach_alike(other, encoder)
    other.load_state_dict(encoder.state_dict())
    frames = torch.randn(2, 9, 16)
    assert torch.equal(other(frames, None)[0], encoder(frames, None)[0])
    steps = [compute_num_active(step, start=16, end=1, num_steps=5) for step in range(1, 8)]
    assert steps == [16, 8, 4, 2, 1, 1, 1]
    assert compute_num_active(1, start=16, end=4, num_steps=0) == 4


def test_codes_are_placed_where_frames_are() -> None:
    encoder = create_encoder()
    attach_bottleneck(encoder, HEADS, codebook_size=5, num_active=1)
    centres = torch.randn(5, 16) * 4
    choices = torch.randint(0, 5, (4, 50))
    frames = centres[choices] + 0.001 * torch.randn(4, 50, 16)
    padding = torch.arange(50) >= torch.tensor([50, 40, 30, 50])[:, None]
    frames = frames.masked_fill(padding[..., None], 100.0)
    random = capture(encoder, frames, padding)[1][HEADS].losses
    generator = torch.Generator().manual_seed(1)
    place_codebooks(encoder, lambda: encoder(frames, padding), generator=generator, max_frames=100)
    placed = capture(encoder, frames, padding)[1][HEADS].losses
    assert (placed < 0.2 * random).all()
    with pytest.raises(ValueError, match="need as many frames, but there are 4"):
        place_codebooks(encoder, lambda: encoder(frames[:, :1], None), generator=generator)


def test_sample_is_uniform_over_batches_and_leaves_padding_out() -> None:
    encoder = attach_both(create_encoder())
    sample = FrameSample(300, torch.Generator().manual_seed(1))
    seen = []
    with capture_codes(encoder, sample.receive), torch.no_grad():
        for _ in range(10):
            frames = torch.randn(2, 40, 16)
            padding = torch.arange(40) >= torch.tensor([40, 20])[:, None]
            seen.append(capture(encoder, frames, padding)[1][HEADS].get_valid()[1])
    kept = {tuple(one.flatten().tolist()) for one in sample.get_frames(HEADS)}
    assert len(kept) == 300
    shares = [sum(tuple(one.flatten().tolist()) in kept for one in part) for part in seen]
    assert sum(shares) == 300
    assert max(shares) < 50  # 30 of each batch on average
    assert min(shares) > 12


def test_unused_codes_restart_on_frames() -> None:
    encoder = attach_both(create_encoder(), num_active=1)
    bottleneck = list_bottlenecks(encoder)[FEED_FORWARD]
    with torch.no_grad():
        bottleneck.codebooks[0, 7:] = bottleneck.codebooks[0, 0] * 0.5 - torch.randn(13, 16) * 1e-3
    frames = torch.randn(4, 50, 16)
    tally = CodeTally(encoder)
    sample = FrameSample(200, torch.Generator().manual_seed(1))
    with capture_codes(encoder, tally.receive), capture_codes(encoder, sample.receive):
        encoder(frames, None)
    counts = tally.get_counts(FEED_FORWARD)
    before = bottleneck.codebooks.detach().clone()
    unused = counts[0] == 0
    number = restart_unused(
        bottleneck, counts, sample.get_frames(FEED_FORWARD), torch.Generator().manual_seed(2)
    )
    assert number == int(unused.sum())
    assert number >= 5
    assert torch.equal(bottleneck.codebooks[0, ~unused], before[0, ~unused])
    inputs = sample.get_frames(FEED_FORWARD)[:, 0]
    distance = torch.cdist(bottleneck.codebooks[0, unused].detach(), inputs).amin(1)
    assert (distance > 0).all()
    assert (distance < 1e-3 * inputs.norm(dim=-1).mean()).all()
    tally.reset()
    with capture_codes(encoder, tally.receive):
        encoder(frames, None)
    assert (tally.get_counts(FEED_FORWARD)[0, unused] > 0).all()


def test_tally_leaves_padding_out() -> None:
    encoder = attach_both(create_encoder())
    frames = torch.randn(3, 20, 16)
    padding = torch.arange(20) >= torch.tensor([20, 13, 9])[:, None]
    tally = CodeTally(encoder)
    with capture_codes(encoder, tally.receive):
        encoder(frames[:1], padding[:1])
        encoder(frames[1:], padding[1:])
    found = tally.compute()[HEADS]
    output = capture(encoder, frames, padding)[1][HEADS]
    codes, inputs = output.get_valid()
    assert found.num_frames == 42
    expected = torch.stack([torch.bincount(codes[:, g].flatten(), minlength=12) for g in range(4)])
    assert torch.equal(tally.get_counts(HEADS), expected)
    assert torch.equal(found.num_used, (expected > 0).sum(1))
    share = expected.double() / 126
    perplexity = (-torch.xlogy(share, share).sum(1)).exp()
    torch.testing.assert_close(found.perplexity, perplexity)
    torch.testing.assert_close(found.error.float(), output.losses.detach())
    torch.testing.assert_close(found.input_norm.float(), inputs.norm(dim=-1).mean(0))
    means = output.vectors.detach()[~padding].view(42, 4, 4)
    torch.testing.assert_close(found.output_norm.float(), means.norm(dim=-1).mean(0))
