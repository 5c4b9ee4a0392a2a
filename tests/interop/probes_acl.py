"""ACLs, identities, SASL, quotas."""

import base64
import hashlib
import itertools

import wire
from probe import (Probes, authenticate, closed, create, created, eq, err, exists, get, multi,
                   codes, ok, set_data, true)

PROBES = probe = Probes()
ANYONE = (wire.ALL, "world", "anyone")
UP = "u:Jq7wMyA/w2Vd5WIDAKdu4OIIFEQ="


def acl_of(connection, path):
    reader = ok(connection.call(wire.GET_ACL, wire.buf(path))).reader()
    return reader.vec(reader.acl)


def set_acl(connection, path, acl, version=-1):
    return connection.call(wire.SET_ACL, wire.set_acl(path, acl, version))


@probe("an ACL is stored in its order, exact duplicates dropped, bits as they are")
def _(env):
    c, root = env.session(), env.root
    acl = [(wire.READ, "ip", "10.0.0.1"), ANYONE, (0, "world", "anyone"),
           (63, "ip", "10.0.0.0/8"), (-1, "digest", "a:b")]
    created(c, root + "/a", acl=acl + [ANYONE, acl[0]])
    eq(acl_of(c, root + "/a"), acl)


@probe("a null or empty ACL, a null or unknown scheme and invalid ids are -114")
def _(env):
    c, root = env.session(), env.root
    for acl in (None, [], [(31, None, "x")], [(31, "", "x")], [(31, "nosuch", "x")],
                [(31, "world", "someone")], [(31, "super", "")],
                [(31, "digest", "foo")], [(31, "digest", "a:b:c")],
                [(31, "ip", "1.2.3.4/33")], [(31, "ip", "foo")], [(31, "ip", "1.2.3")],
                [ANYONE, (31, "digest", "foo")]):
        err(create(c, root + "/a", acl=acl), wire.INVALID_ACL, f"create {acl}")
        err(set_acl(c, root, acl), wire.INVALID_ACL, f"setACL {acl}")


@probe("world with a null id is -5")
def _(env):
    c, root = env.session(), env.root
    err(create(c, root + "/a", acl=[(31, "world", None)]), wire.MARSHALLING)


@probe("addresses with and without a prefix are valid ids")
def _(env):
    c, root = env.session(), env.root
    for identity in ("1.2.3.4", "10.0.0.0/8", "1.2.3.4/0", "1.2.3.4/32", "::1", "fe80::/64",
                     "::1/128"):
        ok(set_acl(c, root, [ANYONE, (1, "ip", identity)]), identity)


@probe("auth is replaced by each authenticated identity; its id may be null or anything")
def _(env):
    c, root = env.session(), env.root
    for identity in (None, "", "whatever"):
        err(create(c, root + "/a", acl=[(31, "auth", identity)]), wire.INVALID_ACL)
    ok(authenticate(c, "digest", "u:p"))
    for number, identity in enumerate((None, "", "whatever")):
        created(c, f"{root}/{number}", acl=[(31, "auth", identity)])
        eq(acl_of(c, f"{root}/{number}"), [(31, "digest", UP)])
    ok(authenticate(c, "digest", "a:b:c"))
    created(c, root + "/two", acl=[(1, "ip", "10.0.0.1"), (31, "auth", "")])
    other = "a:" + base64.b64encode(hashlib.sha1(b"a:b:c").digest()).decode()
    got = acl_of(c, root + "/two")
    eq(got[0], (1, "ip", "10.0.0.1"))
    eq(sorted(got[1:]), sorted([(31, "digest", UP), (31, "digest", other)]))


@probe("a digest ACL is matched by who proves the password")
def _(env):
    c, root = env.session(), env.root
    created(c, root + "/a", data=b"secret", acl=[(31, "digest", UP)])
    err(get(c, root + "/a"), wire.NO_AUTH)
    ok(authenticate(c, "digest", "u:wrong"))
    err(get(c, root + "/a"), wire.NO_AUTH)
    ok(authenticate(c, "digest", "u:p"))
    ok(get(c, root + "/a"))


@probe("a credential without a colon is its own user")
def _(env):
    c, root = env.session(), env.root
    ok(authenticate(c, "digest", "nocolon"))
    created(c, root + "/a", acl=[(31, "auth", "")])
    expected = "nocolon:" + base64.b64encode(hashlib.sha1(b"nocolon").digest()).decode()
    eq(acl_of(c, root + "/a"), [(31, "digest", expected)])


@probe("an ip ACL matches the client's address and its prefix")
def _(env):
    c, root = env.session(), env.root
    for number, (identity, code) in enumerate((
            ("127.0.0.1", 0), ("127.0.0.0/8", 0), ("10.0.0.1", wire.NO_AUTH),
            ("10.0.0.0/8", wire.NO_AUTH), ("0.0.0.0/0", 0), ("::1", wire.NO_AUTH))):
        created(c, f"{root}/{number}", acl=[(31, "ip", identity)])
        eq(get(c, f"{root}/{number}").err, code, identity)


@probe("getACL without ADMIN hides the hash; it takes READ or ADMIN")
def _(env):
    c, root = env.session(), env.root
    created(c, root + "/r", acl=[(wire.READ, "world", "anyone"), (31, "digest", UP)])
    eq(acl_of(c, root + "/r"), [(wire.READ, "world", "anyone"), (31, "digest", "u:x")])
    created(c, root + "/a", acl=[(wire.ADMIN, "world", "anyone"), (31, "digest", UP)])
    eq(acl_of(c, root + "/a")[1], (31, "digest", UP))
    created(c, root + "/w", acl=[(wire.WRITE, "world", "anyone")])
    err(c.call(wire.GET_ACL, wire.buf(root + "/w")), wire.NO_AUTH)
    ok(authenticate(c, "digest", "u:p"))
    eq(acl_of(c, root + "/r")[1], (31, "digest", UP))


@probe("permissions: each operation asks for its own bit")
def _(env):
    c, root = env.session(), env.root
    for bit in (1, 2, 4, 8, 16):
        path = f"{root}/{bit}"
        created(c, path)
        created(c, path + "/kid")
        ok(set_acl(c, path, [(bit, "world", "anyone")]))
        results = {
            "get": get(c, path).err,
            "set": set_data(c, path).err,
            "create": create(c, path + "/new").err,
            "delete": c.call(wire.DELETE, wire.path_version(path + "/kid")).err,
            "acl": c.call(wire.GET_ACL, wire.buf(path)).err,
        }
        allowed = sorted(name for name, code in results.items() if code == 0)
        eq(allowed, {1: ["acl", "get"], 2: ["set"], 4: ["create"], 8: ["delete"],
                     16: ["acl"]}[bit], f"bit {bit}")
        ok(set_acl(env.super(), path, wire.OPEN_ACL))


@probe("the super user passes every check")
def _(env):
    c, s, root = env.session(), env.super(), env.root
    created(c, root + "/none", data=b"x", acl=[(31, "digest", "a:b")])
    ok(get(s, root + "/none"))
    ok(set_data(s, root + "/none"))
    ok(set_acl(s, root + "/none", wire.OPEN_ACL))


@probe("a failed auth is -115 with zxid 0, then closed, and nothing behind it is answered")
def _(env):
    for scheme, credential in (("nosuch", b"x"), (None, b"x"), ("world", b"anyone"),
                               ("digest", None), ("", b"x"), ("super", b"x"),
                               ("x509", b"x"), ("sasl", b"x"), ("auth", b"x")):
        c = env.session()
        frames = [wire.i32(-4) + wire.i32(wire.AUTH) + wire.auth(scheme, credential),
                  wire.i32(2) + wire.i32(wire.EXISTS) + wire.path_watch("/")]
        c.send_bytes(b"".join(wire.i32(len(f)) + f for f in frames))
        reply = err(c.next(), wire.AUTH_FAILED, repr(scheme))
        eq((reply.xid, reply.zxid), (-4, 0), repr(scheme))
        closed(c.next(), repr(scheme))
        ok(exists(env.reattach(c), "/"))


@probe("digest with empty auth and ip with anything succeed")
def _(env):
    c = env.session()
    ok(authenticate(c, "digest", b""))
    ok(authenticate(c, "ip", b"whatever"))
    ok(authenticate(c, "ip", None))


@probe("sasl ids are valid while the provider is configured")
def _(env):
    c, root = env.session(), env.root
    for identity in ("bob", "bob@REALM", "bob/host@REALM", "a b", ""):
        ok(set_acl(c, root, [ANYONE, (1, "sasl", identity)]), repr(identity))


@probe("sasl and x509 ids are -114 without their provider", server="plain")
def _(env):
    c, root = env.session(), env.root
    err(create(c, root + "/a", acl=[(31, "sasl", "bob")]), wire.INVALID_ACL)
    err(create(c, root + "/a", acl=[(31, "x509", "CN=bob")]), wire.INVALID_ACL)


# ---- SASL DIGEST-MD5, by hand ----

def md5(data):
    return hashlib.md5(data).digest()


def response(prefix, user, password, nonce, cnonce, uri, authzid=None):
    a1 = md5(f"{user}:zk-sasl-md5:{password}".encode()) + f":{nonce}:{cnonce}".encode()
    if authzid:
        a1 += f":{authzid}".encode()
    a2 = f"{prefix}:{uri}".encode()
    return hashlib.md5(
        f"{md5(a1).hex()}:{nonce}:00000001:{cnonce}:auth:{md5(a2).hex()}".encode()).hexdigest()


URI = "zookeeper/zk-sasl-md5"


def sasl(connection, token):
    connection.send(wire.SASL, wire.buf(token))
    return connection.next()


def challenge(connection, token=b""):
    reply = ok(sasl(connection, token))
    eq(reply.zxid, 0)
    text = reply.reader().buf().decode()
    fields = dict(part.split("=", 1) for part in text.split(","))
    eq((fields["realm"], fields["charset"], fields["algorithm"], "qop" in fields),
       ('"zk-sasl-md5"', "utf-8", "md5-sess", False), text)
    return fields["nonce"].strip('"')


def answer(nonce, user="bob", password="bobsecret", uri=URI, authzid=None, cnonce="c0ffee"):
    digest = response("AUTHENTICATE", user, password, nonce, cnonce, uri, authzid)
    text = (f'charset=utf-8,username="{user}",realm="zk-sasl-md5",nonce="{nonce}",nc=00000001,'
            f'cnonce="{cnonce}",digest-uri="{uri}",maxbuf=65536,response={digest},qop=auth')
    return (text + (f',authzid="{authzid}"' if authzid else "")).encode()


def sasl_login(connection, user="bob", password="bobsecret"):
    nonce = challenge(connection)
    reply = ok(sasl(connection, answer(nonce, user, password)))
    expected = response("", user, password, nonce, "c0ffee", URI)
    eq(reply.reader().buf(), f"rspauth={expected}".encode())
    eq(reply.zxid, 0)


@probe("SASL DIGEST-MD5: challenge, response, rspauth; then the identity is on the connection")
def _(env):
    c, root = env.session(), env.root
    sasl_login(c)
    reader = ok(c.call(wire.WHO_AM_I)).reader()
    eq(sorted(reader.vec(lambda: (reader.str(), reader.str()))),
       [("ip", "127.0.0.1"), ("sasl", "bob")])
    created(c, root + "/a", acl=[(31, "auth", "")])
    eq(acl_of(c, root + "/a"), [(31, "sasl", "bob")])
    err(get(env.session(), root + "/a"), wire.NO_AUTH)
    ok(get(c, root + "/a"))


@probe("SASL takes an authzid equal to the user, and a first token that is not empty")
def _(env):
    c = env.session()
    nonce = challenge(c, b"hello")
    ok(sasl(c, answer(nonce, authzid="bob")))


@probe("a wrong password, an unknown user or another uri: -115, a null token, then closed")
def _(env):
    for options in (dict(password="wrong"), dict(user="nobody"),
                    dict(uri="zookeeper/localhost")):
        c = env.session()
        nonce = challenge(c)
        reply = sasl(c, answer(nonce, **options))
        eq((reply.err, reply.zxid, reply.body), (wire.AUTH_FAILED, 0, wire.i32(-1)), str(options))
        closed(c.next())


@probe("a SASL token after success is -115 and closed")
def _(env):
    c = env.session()
    sasl_login(c)
    reply = sasl(c, b"")
    eq(reply.err, wire.AUTH_FAILED)
    closed(c.next())


@probe("sasl identities match equal ids; the id super matches every sasl entry")
def _(env):
    c, root = env.session(), env.root
    created(c, root + "/bob", acl=[(31, "sasl", "bob")])
    created(c, root + "/eve", acl=[(31, "sasl", "eve")])
    err(get(c, root + "/bob"), wire.NO_AUTH)
    sasl_login(c)
    ok(get(c, root + "/bob"))
    err(get(c, root + "/eve"), wire.NO_AUTH)
    s = env.session()
    sasl_login(s, "super", "adminsecret")
    ok(get(s, root + "/bob"))
    ok(get(s, root + "/eve"))


@probe("SASL without configuration: an empty token gets a null one, a null token closes",
       server="plain")
def _(env):
    c = env.session()
    reply = ok(sasl(c, b""))
    eq((reply.zxid, reply.body), (0, wire.i32(-1)))
    ok(exists(c, "/"))
    closed(sasl(env.session(), None))


# ---- quotas ----

numbers = itertools.count()


def quota(env, limits):
    """A prefix with these limits; the quota's znodes are made as zkCli makes them."""
    c = env.session()
    name = f"q{env.number}-{next(numbers)}"
    created(c, f"/{name}")
    path = f"/zookeeper/quota/{name}"
    created(c, path)
    created(c, path + "/zookeeper_limits", data=limits)
    created(c, path + "/zookeeper_stats", data=b"count=0,bytes=0")
    return c, f"/{name}", path


def stats(connection, path):
    return ok(get(connection, path + "/zookeeper_stats")).reader().buf()


@probe("a quota's statistics follow creates, deletes and data, silently")
def _(env):
    c, root, quota_path = quota(env, b"count=100,bytes=1000")
    eq(stats(c, quota_path), b"count=1,bytes=0")
    before = ok(get(c, quota_path + "/zookeeper_stats", True)).stat()
    created(c, root + "/a", data=b"12345")
    eq(stats(c, quota_path), b"count=2,bytes=5")
    ok(set_data(c, root + "/a", b"1234567"))
    eq(stats(c, quota_path), b"count=2,bytes=7")
    eq(c.drain(), [])
    after = ok(get(c, quota_path + "/zookeeper_stats")).stat()
    eq((after.version, after.mzxid), (before.version, before.mzxid))
    eq(after.data_length, len(b"count=2,bytes=7"))
    ok(c.call(wire.DELETE, wire.path_version(root + "/a")))
    eq(stats(c, quota_path), b"count=1,bytes=0")


@probe("without enforceQuota a limit stops nobody")
def _(env):
    c, root, _ = quota(env, b"count=1,bytes=1=;byteHardLimit=1;countHardLimit=1")
    created(c, root + "/a", data=b"12345")


@probe("a hard count limit may be reached, not passed: -125 on create", server="quota")
def _(env):
    c, root, _ = quota(env, b"count=-1,bytes=-1=;byteHardLimit=-1;countHardLimit=3")
    created(c, root + "/a")
    created(c, root + "/b")
    err(create(c, root + "/c"), wire.QUOTA_EXCEEDED)
    ok(c.call(wire.DELETE, wire.path_version(root + "/a")))
    created(c, root + "/c")


@probe("a hard byte limit binds create and setData: the total after the change counts",
       server="quota")
def _(env):
    c, root, _ = quota(env, b"count=5,bytes=-1=;byteHardLimit=10;countHardLimit=-1")
    created(c, root + "/a", data=b"12345")
    err(create(c, root + "/b", data=b"123456"), wire.QUOTA_EXCEEDED)
    created(c, root + "/b", data=b"12345")
    err(set_data(c, root + "/b", b"123456"), wire.QUOTA_EXCEEDED)
    ok(set_data(c, root + "/b", b"54321"))


@probe("soft limits stop nobody", server="quota")
def _(env):
    c, root, _ = quota(env, b"count=1,bytes=1")
    created(c, root + "/a", data=b"12345")


@probe("a multi is judged op by op against the usage before it", server="quota")
def _(env):
    c, root, quota_path = quota(env, b"count=-1,bytes=-1=;byteHardLimit=-1;countHardLimit=2")
    results = multi(c, *[(wire.CREATE, wire.create(f"{root}/{n}")) for n in range(3)])
    eq([r[1] for r in results[:-1]], [0, 0, 0])
    eq(stats(c, quota_path), b"count=4,bytes=0")
    eq(codes(multi(c, (wire.CREATE, wire.create(root + "/x")),
                   (wire.CHECK, wire.path_version("/")))), [wire.QUOTA_EXCEEDED, -2])


@probe("limits that cannot be read: creates and setData below are -5; empty limits are none",
       server="quota")
def _(env):
    c, root, quota_path = quota(env, b"count=-1,bytes=-1=;byteHardLimit=-1;countHardLimit=2")
    created(c, root + "/a")
    ok(set_data(c, quota_path + "/zookeeper_limits", b"garbage"))
    err(create(c, root + "/b"), wire.MARSHALLING)
    err(set_data(c, root + "/a", b"x"), wire.MARSHALLING)
    ok(set_data(c, quota_path + "/zookeeper_limits", b""))
    created(c, root + "/b")
    created(c, root + "/c")


@probe("null limits are unreadable ones: creates and setData below are -5", server="quota")
def _(env):
    c, root, quota_path = quota(env, b"count=-1,bytes=-1=;byteHardLimit=-1;countHardLimit=2")
    ok(set_data(c, quota_path + "/zookeeper_limits", None))
    err(create(c, root + "/a"), wire.MARSHALLING)
    err(set_data(c, root, b"x"), wire.MARSHALLING)


@probe("unreadable statistics of a quota do not end the server", server="quota")
def _(env):
    # They end a real one at the next change below the quota.
    if not env.quorate:
        return
    for data in (None, b"garbage"):
        c, root, quota_path = quota(env, b"")
        ok(set_data(c, quota_path + "/zookeeper_stats", data))
        create(c, root + "/a", data=b"12345")
        c.call(wire.DELETE, wire.path_version(root + "/a"))
        ok(exists(env.session(), root))


@probe("deleting the limits ends the quota", server="quota")
def _(env):
    c, root, quota_path = quota(env, b"count=-1,bytes=-1=;byteHardLimit=-1;countHardLimit=1")
    err(create(c, root + "/a"), wire.QUOTA_EXCEEDED)
    ok(c.call(wire.DELETE, wire.path_version(quota_path + "/zookeeper_limits")))
    created(c, root + "/a")
    true(exists(c, root + "/a").err == 0, "it is there")
